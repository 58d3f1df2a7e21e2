"""The work of a default `sipf run`, done by a straightforward transformers + TRL script.

    sipf run --run-dir RUN
    sipf task export arith --which demonstration --limit 10000 --out demonstrations.jsonl
    sipf task export arith --which solution --skip 10000 --limit 1500 --out questions.jsonl
    python tests/peers/loop_trl.py --run RUN --demonstrations demonstrations.jsonl --questions questions.jsonl \
        --strong STRONG --scale 0.05

(`compare_loop.py` beside it does all of this and prints the ratios; STRONG is the folder of tiny-strong that it writes.)

Every stage of RUN/timings.json is done again on the same inputs: the same prompts, paths, labels and pairs, and the policy
of the same moment, all read from RUN, so that completions have the same lengths and no stage depends on how well an
earlier one went here. `--scale F` does the first F of each stage's units (optimizer steps, questions, paths); `seconds_full`
is the measured time over the share that was done, an extrapolation. Loading of models and rows is not timed.

How each stage is done:
- SFT, control: trl.SFTTrainer; alignment: trl's ORPOTrainer; the run's batch size and learning rate, f32, no checkpoints.
- samples, evaluations: `model.generate`, left-padded batches of 64 sequences, num_return_sequences for the samples.
- rollouts: `model.generate` from every step's prefix, K sequences each, 64 in a batch. All K are drawn: a batch cannot
  drop the rollouts of a step whose label is decided.
- reward model: AutoModelForTokenClassification on TRL's stepwise layout, transformers.Trainer; scores: batches of 64 paths.
  The run's `prm-tiny` reads log-probabilities too, which this classifier does not: less work here.
- pairs: a loop in Python over the scores.

Written for torch 2.15, transformers 5.24, TRL 1.16.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import sys
import tempfile
import time
import tomllib

BATCH = 64


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


class Clock:
    """Seconds of each stage, and the share of it that was done."""

    def __init__(self, scale):
        self.scale, self.stages = scale, {}

    def part(self, rows):
        """The first `scale` of the rows."""
        return rows[: max(1, round(len(rows) * self.scale))]

    @contextlib.contextmanager
    def stage(self, name, done, total):
        note = {}
        wall, processor = time.perf_counter(), time.process_time()
        yield note
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        share = done / total
        self.stages[name] = {
            "wall_s": round(wall, 2), "cpu_s": round(processor, 2), "share": round(share, 4),
            "wall_s_full": round(wall / share, 1), "cpu_s_full": round(processor / share, 1), **note,
        }
        print(f"{name}: {wall:.1f} s for {share:.1%} {note}", file=sys.stderr)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="a finished default `sipf run`")
    parser.add_argument("--demonstrations", required=True, help="rows of `sipf task export --which demonstration`")
    parser.add_argument("--questions", required=True, help="the run's questions, of `sipf task export --which solution`")
    parser.add_argument("--strong", required=True, help="folder of the simulator and reward base")
    parser.add_argument("--scale", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", help="stages whose name holds this text")
    return parser.parse_args()


def main():
    args = arguments()
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        loop = Loop(args, scratch)
        for name, stage in loop.plan():
            if not args.only or args.only in name:
                stage(name)
    whole = {key: round(sum(stage[key] for stage in loop.clock.stages.values()), 1)
             for key in ("wall_s_full", "cpu_s_full")}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"scale": args.scale, "threads": args.threads, "versions": versions,
                      "stages": loop.clock.stages, "total": whole}))


class Loop:
    def __init__(self, args, scratch):
        from transformers import AutoTokenizer

        self.args, self.run, self.scratch = args, args.run, scratch
        self.clock = Clock(args.scale)
        self.settings = tomllib.loads((self.run / "run.toml").read_text())
        self.steps = {name: stage["figures"].get("steps", 0)
                      for name, stage in json.loads((self.run / "manifest.json").read_text())["stages"].items()}
        self.tokenizer = AutoTokenizer.from_pretrained(self.run / "sft", padding_side="left")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.answers = {row["problem"]: final(row["completion"]) for row in lines(args.questions)}

    def plan(self):
        """The run's stages in its order; those that it does not have are left out."""
        does = [("sft", self.sft), ("iter-0/evaluate", self.evaluate), ("iter-0/sample", self.sample),
                ("iter-0/simulate", self.simulate), ("reward", self.reward)]
        for k in range(1, self.settings["iterations"] + 1):
            does += [(f"iter-{k}/score", self.score), (f"iter-{k}/pairs", self.pairs),
                     (f"iter-{k}/policy", self.align)]
            does += [("control", self.control), ("control/evaluate", self.evaluate)] if k == 1 else []
            does += [(f"iter-{k}/evaluate", self.evaluate), (f"iter-{k}/sample", self.sample)]
        return [(name, stage) for name, stage in does if name in self.steps]

    # Models

    def policy(self, folder):
        from transformers import AutoModelForCausalLM

        place = self.run / ("sft" if folder == "iter-0" else f"{folder}/policy")
        while not place.is_dir():  # an iteration without pairs kept the weights before it
            folder = f"iter-{int(folder.removeprefix('iter-')) - 1}"
            place = self.run / ("sft" if folder == "iter-0" else f"{folder}/policy")
        return AutoModelForCausalLM.from_pretrained(place)

    def generate(self, model, prompts, each, temperature):
        """`each` completions of every prompt, in order."""
        import torch

        most = self.settings["evaluate"]["max_tokens"]
        how = dict(do_sample=True, temperature=temperature, top_k=0, top_p=1.0) if temperature else dict(do_sample=False)
        model.eval()
        texts = []
        with torch.inference_mode():
            for at in range(0, len(prompts), BATCH // each):
                batch = self.tokenizer(prompts[at : at + BATCH // each], return_tensors="pt", padding=True)
                batch.pop("token_type_ids", None)
                out = model.generate(**batch, max_new_tokens=most, num_return_sequences=each,
                                     pad_token_id=self.tokenizer.pad_token_id, **how)
                texts += self.tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        return texts

    # Stages

    def trainer_settings(self, kind, section, name):
        train = self.settings[section]
        return kind(
            output_dir=self.scratch, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[],
            save_strategy="no", logging_steps=50, disable_tqdm=True, seed=self.settings["seed"],
            max_steps=max(1, round(self.steps[name] * self.clock.scale)),
            per_device_train_batch_size=train["batch-size"], learning_rate=train["learning-rate"],
            warmup_steps=train["warmup-steps"], weight_decay=train["weight-decay"],
            adam_beta2=train["adam-beta2"], max_grad_norm=train["max-grad-norm"],
            **({} if kind.__name__ == "TrainingArguments" else {"max_length": train["max-length"]}),
        )

    def supervise(self, name, model, section):
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        rows = [{"prompt": row["prompt"], "completion": row["completion"]} for row in lines(self.args.demonstrations)]
        config = self.trainer_settings(SFTConfig, section, name)
        trainer = SFTTrainer(model=model, args=config, train_dataset=Dataset.from_list(rows),
                             processing_class=self.tokenizer)
        self.train(name, trainer)

    def train(self, name, trainer):
        with self.clock.stage(name, trainer.args.max_steps, self.steps[name]) as note:
            note["loss"] = round(trainer.train().training_loss, 4)

    def sft(self, name):
        from transformers import AutoConfig, AutoModelForCausalLM

        self.supervise(name, AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(self.run / "sft")), "sft")

    def control(self, name):
        self.supervise(name, self.policy("iter-0"), "align")

    def align(self, name):
        from datasets import Dataset
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        folder = name.split("/")[0]
        rows = [{key: row[key] for key in ("prompt", "chosen", "rejected")}
                for row in lines(self.run / folder / "pairs.jsonl")]
        config = self.trainer_settings(ORPOConfig, "align", name)
        config.beta = self.settings["align"]["beta"]
        before = f"iter-{int(folder.removeprefix('iter-')) - 1}"
        trainer = ORPOTrainer(model=self.policy(before), args=config, train_dataset=Dataset.from_list(rows),
                              processing_class=self.tokenizer)
        self.train(name, trainer)

    def sample(self, name):
        folder = name.split("/")[0]
        prompts = list(dict.fromkeys(row["prompt"] for row in lines(self.run / folder / "samples.jsonl")))
        some, how = self.clock.part(prompts), self.settings["sample"]
        model = self.policy(folder)
        with self.clock.stage(name, len(some), len(prompts)):
            self.generate(model, some, how["max-attempts"], how["temperature"])

    def simulate(self, name):
        from transformers import AutoModelForCausalLM

        paths = [row for row in lines(self.run / "iter-0/labels.jsonl") if not row["sample"].endswith("#gold")]
        some, how = self.clock.part(paths), self.settings["simulate"]
        model = AutoModelForCausalLM.from_pretrained(self.args.strong)
        k, agree = how["rollouts"], []
        with self.clock.stage(name, len(some), len(paths)) as note:
            prefixes = [(path, step, path["prompt"] + "".join(f"{text}\n" for text in path["completions"][: step + 1]))
                        for path in some for step in range(len(path["completions"]))]
            texts = self.generate(model, [text for _, _, text in prefixes], k, how["temperature"])
            for at, (path, step, _) in enumerate(prefixes):
                ends = [final(text) for text in texts[at * k : at * k + k]]
                label = self.answers[path["problem"]] in ends
                agree.append(label == bool(path["labels"][step]))
            note["labels_as_in_the_run"] = round(sum(agree) / len(agree), 3)

    def stepwise(self, row):
        """TRL's layout: prompt and steps tokenised apart, the label at the separator after each step."""
        encode = lambda text: self.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = encode(row["prompt"])
        labels = [-100] * len(ids)
        for text, label in zip(row["completions"], row["labels"]):
            step = encode(text) + encode("\n")
            ids += step
            labels += [-100] * (len(step) - 1) + [int(label)]
        return {"input_ids": ids, "labels": labels, "attention_mask": [1] * len(ids)}

    def reward(self, name):
        from datasets import Dataset
        from transformers import (AutoModelForTokenClassification, DataCollatorForTokenClassification, Trainer,
                                  TrainingArguments)

        rows = [self.stepwise(row) for row in lines(self.run / "iter-0/labels.jsonl")]
        self.verifier = AutoModelForTokenClassification.from_pretrained(self.args.strong, num_labels=2)
        trainer = Trainer(model=self.verifier, args=self.trainer_settings(TrainingArguments, "reward", name),
                          train_dataset=Dataset.from_list(rows),
                          data_collator=DataCollatorForTokenClassification(self.tokenizer))
        self.train(name, trainer)

    def score(self, name):
        import torch
        from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification

        if not hasattr(self, "verifier"):
            self.verifier = AutoModelForTokenClassification.from_pretrained(self.args.strong, num_labels=2)
        before = int(name.split("/")[0].removeprefix("iter-")) - 1
        paths = [row for row in lines(self.run / f"iter-{before}/samples.jsonl") if row["kept"]]
        some, collate = self.clock.part(paths), DataCollatorForTokenClassification(self.tokenizer)
        model = self.verifier.eval()
        with self.clock.stage(name, len(some), len(paths)), torch.inference_mode():
            for at in range(0, len(some), BATCH):
                rows = []
                for path in some[at : at + BATCH]:
                    text = path["completion"].encode()
                    steps = [text[step["start"] : step["end"]].decode() for step in path["steps"]]
                    rows.append(self.stepwise({"prompt": path["prompt"], "completions": steps, "labels": [1] * len(steps)}))
                batch = collate(rows)
                marks = batch.pop("labels") != -100
                scores = model(**batch).logits.softmax(-1)[..., 1]
                _ = [row[mark].mean().item() for row, mark in zip(scores, marks) if mark.any()]

    def pairs(self, name):
        folder = name.split("/")[0]
        how = self.settings["pairs"]
        upto = range(int(folder.removeprefix("iter-")))
        paths = {row["id"]: row for k in upto for row in lines(self.run / f"iter-{k}/samples.jsonl") if row["kept"]}
        scores = lines(self.run / folder / "scores.jsonl")
        with self.clock.stage(name, 1, 1) as note:
            questions = {}
            for row in scores:
                questions.setdefault(paths[row["sample"]]["problem"], []).append(row)
            count = 0
            for rows in questions.values():
                chosen = [row for row in rows if paths[row["sample"]]["passed"] and min(row["scores"] or [0]) >= how["step-floor"]]
                found = [(good, bad) for good in chosen for bad in rows if good["reward"] - bad["reward"] >= how["margin"]]
                count += min(len(found), how["pairs-per-question"])
            note["pairs"] = min(count, how["max-pairs"])

    def evaluate(self, name):
        folder, how = name.split("/")[0], self.settings["evaluate"]
        model, asked = self.policy(folder), []
        for file in sorted((self.run / folder).glob("samples_*.jsonl")):
            asked += self.clock.part(lines(file))
        total = sum(len(lines(file)) for file in (self.run / folder).glob("samples_*.jsonl"))
        prompts = [row["arguments"]["gen_args_0"]["arg_0"] for row in asked]
        with self.clock.stage(name, len(asked), total) as note:
            greedy = self.generate(model, prompts, 1, 0.0)
            self.generate(model, prompts, how["samples"], how["temperature"])
            right = [final(text) == row["target"] for text, row in zip(greedy, asked)]
            note["greedy_as_in_the_run"] = round(
                sum(ours == row["passed"] for ours, row in zip(right, asked)) / len(asked), 3)


def final(text):
    found = re.search(r"^#### *(.*?) *$", text, re.MULTILINE)
    return found and found.group(1)


if __name__ == "__main__":
    main()
