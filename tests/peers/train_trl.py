"""Tokens a second and memory of an optimizer step with TRL's losses (and PEFT's adapters), against `sipf bench train`.

    python tests/peers/generate_transformers.py --make ckpt/1m --size 1m     # a random Llama checkpoint; also 10m, 30m
    sipf bench train --json --model ckpt/1m --loss orpo --threads 1
    OMP_NUM_THREADS=1 python tests/peers/train_trl.py --model ckpt/1m --loss orpo

A step is the forward pass, backward pass, clipping and AdamW (torch's fused one) on the same number of random ids, rows of
equal length, so that no padding is computed. The two halves of a pair share their prompt, as pairs do; both programs are
credited with every token of both halves, though sipf computes shared ones once. TRL's own loss function is called with a collated batch; what its trainer does
around it (data loading, logging, callbacks) is left out, in its favour. Processor time is the figure to compare on a machine
that others use too. `--against SIPF` runs both in turns and prints the ratios.
Written for torch 2.15, transformers 5.24, TRL 1.16, PEFT 0.21.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

assets = pathlib.Path(__file__).resolve().parents[2] / "core" / "assets" / "tiny"


def resident(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith(name))


def measure(args):
    import datasets
    import torch
    import transformers
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    vocab, parameters = model.config.vocab_size, model.num_parameters()
    tokenizer = AutoTokenizer.from_pretrained(assets)
    length = args.prompt_tokens + args.new_tokens
    common = dict(output_dir=tempfile.mkdtemp(), use_cpu=True, report_to=[], bf16=False, max_length=length,
                  gradient_checkpointing=args.grad_checkpointing, disable_tqdm=True)
    more = {}
    if args.lora_r:
        from peft import LoraConfig
        more["peft_config"] = LoraConfig(r=args.lora_r, target_modules="all-linear", task_type="CAUSAL_LM")
    ids = torch.randint(0, vocab, (args.sequences, length))
    mask = torch.ones_like(ids)
    if args.loss == "orpo":
        rows = datasets.Dataset.from_list([dict(prompt="a", chosen=" b", rejected=" c")])
        trainer = ORPOTrainer(model=model, args=ORPOConfig(**common), train_dataset=rows, processing_class=tokenizer, **more)
        half = args.sequences // 2
        ids[half:, : args.prompt_tokens] = ids[:half, : args.prompt_tokens]
        labels = ids.clone()
        labels[:, : args.prompt_tokens] = -100
        batch = {}
        for side, part in (("chosen", slice(0, half)), ("rejected", slice(half, None))):
            batch |= {f"{side}_input_ids": ids[part], f"{side}_attention_mask": mask[part], f"{side}_labels": labels[part]}
        compute = lambda: trainer.get_batch_loss_metrics(trainer.model, batch)[0]
    else:
        rows = datasets.Dataset.from_list([dict(prompt="a", completion=" b")])
        config = SFTConfig(packing=False, **common)
        trainer = SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer, **more)
        labels = ids.clone()
        labels[:, : args.prompt_tokens] = -100
        batch = dict(input_ids=ids, attention_mask=mask, labels=labels)
        compute = lambda: trainer.compute_loss(trainer.model, dict(batch))
    net = trainer.model.train()
    if args.grad_checkpointing:
        net.gradient_checkpointing_enable()
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-5, fused=True)

    def step():
        loss = compute()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    before = resident("VmRSS:")
    step()
    walls, processors = [], []
    for _ in range(args.steps):
        wall, processor = time.perf_counter(), time.process_time()
        step()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    tokens = args.sequences * length
    print(json.dumps({
        "bench": "train", "peer": f"TRL {trl.__version__}, transformers {transformers.__version__}, torch {torch.__version__}",
        "subject": {"model": args.model, "parameters": parameters, "threads": args.threads}, "loss": args.loss,
        "step_tokens": tokens, "lora_r": args.lora_r, "grad_checkpointing": args.grad_checkpointing,
        "tokens_per_second": tokens / statistics.median(walls),
        "tokens_per_cpu_second": tokens / statistics.median(processors),
        "memory_mb": {"before_first_step": before, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}}))


def against(args):
    """Both programs in turns; the medians of the rounds' ratios."""
    shared = ["--model", args.model, "--loss", args.loss, "--sequences", str(args.sequences), "--steps", str(args.steps),
              "--prompt-tokens", str(args.prompt_tokens), "--new-tokens", str(args.new_tokens), "--threads", str(args.threads)]
    shared += ["--lora-r", str(args.lora_r)] if args.lora_r else []
    shared += ["--grad-checkpointing"] if args.grad_checkpointing else []
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    rounds = []
    for _ in range(args.rounds):
        ours, theirs = (
            json.loads(subprocess.run(command + shared, env=environment, check=True, capture_output=True, text=True).stdout)
            for command in ([args.against, "bench", "train", "--json"], [sys.executable, __file__]))
        used = lambda report: report["memory_mb"]["peak"] - report["memory_mb"]["before_first_step"]
        rounds.append({
            "speed": ours["tokens_per_cpu_second"] / theirs["tokens_per_cpu_second"],
            "peak_mb": [ours["memory_mb"]["peak"], theirs["memory_mb"]["peak"]],
            "above_start_mb": [used(ours), used(theirs)],
            "tokens_per_cpu_second": [ours["tokens_per_cpu_second"], theirs["tokens_per_cpu_second"]]})
    print(json.dumps({"model": args.model, "loss": args.loss, "lora_r": args.lora_r,
                      "grad_checkpointing": args.grad_checkpointing,
                      "speed": statistics.median(one["speed"] for one in rounds), "rounds": rounds}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--loss", choices=["orpo", "sft"], default="orpo")
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--lora-r", type=int)
    parser.add_argument("--grad-checkpointing", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--against", help="the sipf binary: run both in turns")
    parser.add_argument("--rounds", type=int, default=3)
    parsed = parser.parse_args()
    against(parsed) if parsed.against else measure(parsed)
