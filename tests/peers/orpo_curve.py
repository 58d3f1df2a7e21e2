"""200 ORPO steps here and in TRL from the same weights on the same rows, and a picture of both loss curves.

    python tests/peers/orpo_curve.py --sipf target/release/sipf --svg docs/orpo_curve.svg

Needs torch, transformers, trl, datasets. Rows are sums with a right and a wrong solution; the weights are the bundled `tiny`
after 150 steps of SFT on the right ones. Rows come in file order, batches of 8 pairs, warm-up, linear decay, clipping.
Prints the largest relative difference of the loss, of its likelihood part and of the reward margin.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import tempfile

STEPS, BATCH, BETA = 200, 8, 0.1
SETTINGS = dict(learning_rate=5e-4, weight_decay=0.01, warmup_steps=20, max_grad_norm=1.0)


def rows(path):
    draw = random.Random(7)
    names, things = ["Tom", "Mia", "Leo", "Ana", "Sam"], ["coins", "pens", "shells", "cards"]
    with open(path, "w") as out:
        for _ in range(400):
            name, thing, a, b, c = draw.choice(names), draw.choice(things), *(draw.randint(2, 19) for _ in range(3))
            prompt = f"Q: {name} has {a} {thing}, gets {b} and then {c} more. How many {thing} has {name}?\nA:\n"
            right = f"{name} has <<{a}+{b}={a + b}>>{a + b} {thing}.\nThen <<{a + b}+{c}={a + b + c}>>{a + b + c}.\n#### {a + b + c}"
            slip = a + b + draw.choice([-1, 1, 10])
            wrong = f"{name} has <<{a}+{b}={slip}>>{slip} {thing}.\n#### {slip}"
            out.write(json.dumps(dict(prompt=prompt, chosen=right, rejected=wrong)) + "\n")


def ours(sipf, folder, data):
    common = ["--data", data, "--shuffle", "false", "--threads", "1", "--batch-size", str(BATCH), "--max-length", "256"]
    run = lambda *words: subprocess.run([sipf, *words, *common], check=True, capture_output=True)
    run("sft", "--model", "tiny", "--max-steps", "150", "--learning-rate", "2e-3", "--out", f"{folder}/base")
    settings = [word for key, value in SETTINGS.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    run("align", "--loss", "orpo", "--beta", str(BETA), "--model", f"{folder}/base", "--max-steps", str(STEPS), *settings,
        "--out", f"{folder}/policy")
    return [json.loads(line) for line in open(f"{folder}/policy/metrics.jsonl")]


def theirs(folder, data):
    import torch
    from datasets import load_dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    torch.set_num_threads(1)
    config = ORPOConfig(output_dir=f"{folder}/trl", beta=BETA, max_steps=STEPS, per_device_train_batch_size=BATCH, max_length=256,
                        use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[], save_strategy="no",
                        lr_scheduler_type="linear", logging_steps=1, disable_tqdm=True, **SETTINGS)
    trainer = ORPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(f"{folder}/base", dtype=torch.float32), args=config,
        train_dataset=load_dataset("json", data_files=data, split="train", cache_dir=f"{folder}/cache"),
        processing_class=AutoTokenizer.from_pretrained(f"{folder}/base"))
    trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
    lines, plain = [], trainer.get_batch_loss_metrics

    def noted(*args, **kwargs):
        loss, metrics = plain(*args, **kwargs)
        lines.append(dict(metrics, loss=loss.item()))
        return loss, metrics

    trainer.get_batch_loss_metrics = noted
    trainer.train()
    return lines


def picture(path, curves, note):
    width, height, left, bottom = 760, 360, 60, 40
    top = max(max(values) for _, values, _ in curves) * 1.05
    x = lambda step: left + step * (width - left - 20) / STEPS
    y = lambda value: height - bottom - value * (height - bottom - 20) / top
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
             f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for tick in range(int(top) + 1):
        parts.append(f'<path d="M{left} {y(tick):.1f}H{width - 20}" stroke="#ddd"/><text x="{left - 8}" y="{y(tick) + 4:.1f}" '
                     f'text-anchor="end" fill="#444">{tick}</text>')
    for tick in range(0, STEPS + 1, 50):
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 20}" text-anchor="middle" fill="#444">{tick}</text>')
    for number, (name, values, style) in enumerate(curves):
        line = " ".join(f"{x(step + 1):.1f},{y(value):.1f}" for step, value in enumerate(values))
        parts.append(f'<polyline points="{line}" fill="none" {style}/>')
        parts.append(f'<path d="M{width - 240} {34 + 20 * number}h30" {style}/><text x="{width - 200}" y="{38 + 20 * number}">{name}</text>')
    parts.append(f'<text x="{left + 10}" y="{height - bottom - 10}" fill="#444">{note}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle" fill="#444">optimizer step</text></svg>')
    pathlib.Path(path).write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sipf", required=True)
    parser.add_argument("--svg")
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    folder = tempfile.mkdtemp()
    data = f"{folder}/pairs.jsonl"
    rows(data)
    mine, trl = ours(args.sipf, folder, data), theirs(folder, data)
    assert len(mine) == len(trl) == STEPS
    off = {key: max(abs(a[key] - b[key]) / max(abs(b[key]), 1e-3) for a, b in zip(mine, trl))
           for key in ("loss", "nll_loss", "rewards/margins")}
    print(json.dumps(dict(steps=STEPS, first_loss=trl[0]["loss"], last_loss=trl[-1]["loss"], largest_relative_difference=off)))
    if args.svg:
        loss = lambda lines: [line["loss"] for line in lines]
        picture(args.svg, [("TRL", loss(trl), 'stroke="#e08a00" stroke-width="5" stroke-opacity=".55"'),
                           ("sipf", loss(mine), 'stroke="#1450a0" stroke-width="1.5"')],
                f"ORPO loss, same weights and rows; largest relative difference {off['loss']:.1e}")
