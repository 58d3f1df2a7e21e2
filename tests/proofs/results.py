#!/usr/bin/env python3
"""Tables of docs/results.md from the runs that results.sh made. Needs nothing but Python.

Differences are paired over problems; the standard error is over problems, not over seeds.
"""
import json
import math
import pathlib
import sys

OUT = pathlib.Path(sys.argv[1])


def answers(folder):
    rows = [json.loads(line) for line in open(folder / "samples_arith.jsonl")]
    mean = lambda values: sum(values) / len(values)
    return {
        row["doc"]["id"]: {
            "greedy": float(row["greedy"]["passed"]),
            "sampled": mean([float(s["passed"]) for s in row["samples"]]),
            "fully": mean([s["measures"]["fully_right"] for s in row["samples"]]),
        }
        for row in rows
    }


def paired(a, b, key):
    d = [a[name][key] - b[name][key] for name in a]
    m = sum(d) / len(d)
    se = math.sqrt(sum((x - m) ** 2 for x in d) / (len(d) - 1) / len(d))
    return m, se


def mcnemar(a, b):
    up = sum(a[n]["greedy"] > b[n]["greedy"] for n in a)
    down = sum(a[n]["greedy"] < b[n]["greedy"] for n in a)
    n, k = up + down, min(up, down)
    if n == 0:
        return 1.0
    tail = sum(math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2)) for i in range(k + 1))
    return min(1.0, 2 * tail)


def points(m, se):
    return f"{100 * m:+.1f} ± {100 * se:.1f}"


def main():
    seeds = sorted(int(p.name.split("-")[1]) for p in OUT.glob("sipf-*") if (p / "report.html").is_file())
    print("| seed | model | greedy | sampled | fully right, sampled | out of domain, sampled |\n|---|---|---|---|---|---|")
    for seed in seeds:
        base = OUT / f"sipf-{seed}"
        for name in ["iter-0", "control", "iter-1", "iter-2", "iter-3"]:
            e = json.load(open(base / name / "eval.json"))
            ood = e["transfer"]["arith-ood"]["sampled_accuracy"]
            print(f"| {seed} | {name} | {e['accuracy']:.3f} | {e['sampled_accuracy']:.3f} | {e['measures']['fully_right']['sampled']:.3f} | {ood:.3f} |")
    print("\n| seed | reward model: step AUC | step accuracy | pairwise |\n|---|---|---|---|")
    for seed in seeds:
        q = json.load(open(OUT / f"sipf-{seed}" / "reward" / "quality.json"))
        print(f"| {seed} | {q['auc']:.3f} | {q['step_accuracy']:.3f} | {q['pairwise']:.3f} |")
    print("\nIteration 1 against the others, points ± standard error over problems:\n")
    print("| seed | against | sampled answer | sampled fully right | greedy | greedy, McNemar p |\n|---|---|---|---|---|---|")
    for seed in seeds:
        base = OUT / f"sipf-{seed}"
        one = answers(base / "iter-1")
        others = [("control", base / "control"), ("supervised", base / "iter-0")]
        arms = ["siof", "rft", "prft", "base-likelihood", "policy-likelihood", "one-rollout"]
        others += [(arm, OUT / f"{arm}-{seed}" / "iter-1") for arm in arms]
        for name, folder in others:
            if (folder / "samples_arith.jsonl").is_file():
                other = answers(folder)
                cells = [points(*paired(one, other, key)) for key in ["sampled", "fully", "greedy"]]
                print(f"| {seed} | {name} | {' | '.join(cells)} | {mcnemar(one, other):.1g} |")
    print("\nIteration 3 against iteration 1, and the worst out-of-domain change against the supervised model:\n")
    print("| seed | sampled answer | sampled fully right | out of domain, iteration 3 - supervised |\n|---|---|---|---|")
    for seed in seeds:
        base = OUT / f"sipf-{seed}"
        a, b = answers(base / "iter-3"), answers(base / "iter-1")
        against = json.load(open(base / "iter-3" / "eval.json"))["transfer"]["arith-ood"]["against"]["iter-0"]["sampled"]
        print(f"| {seed} | {points(*paired(a, b, 'sampled'))} | {points(*paired(a, b, 'fully'))} | {points(against['difference'], against['stderr'])} |")


main()
