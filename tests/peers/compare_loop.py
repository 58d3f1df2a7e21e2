"""`sipf run` with nothing given beside the same work in transformers + TRL, by stage, on one machine.

    python tests/peers/compare_loop.py --sipf target/release/sipf --scale 0.05

Runs `sipf run` in a fresh folder, then `loop_trl.py` on what it wrote (a share of each stage, extrapolated), `--turns` times,
and prints wall and CPU seconds by stage, their ratio, and both totals as JSON. Stages that only one side has (the report)
are named and not counted. On a machine with other work on it, the CPU ratio is the one to trust.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sipf", default="sipf", help="the binary")
    parser.add_argument("--scale", type=float, default=0.05)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--run", help="a finished run to compare with, in place of running")
    parser.add_argument("--threads", type=int, default=2)
    args, more = parser.parse_known_args()
    ratios, last = {}, None
    for turn in range(args.turns):
        with tempfile.TemporaryDirectory() as scratch:
            last = one(args, more, pathlib.Path(scratch))
        for name, row in last.items():
            ratios.setdefault(name, []).append(row)
    table = {}
    for name, rows in ratios.items():
        middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        table[name] = {**middle, "wall_ratio": round(middle["peer_wall_s"] / max(middle["wall_s"], 1e-9), 2),
                       "cpu_ratio": round(middle["peer_cpu_s"] / max(middle["cpu_s"], 1e-9), 2)}
    print(json.dumps({"scale": args.scale, "turns": args.turns, "threads": args.threads, "stages": table}, indent=1))


def one(args, more, scratch):
    sipf = lambda *words: subprocess.run([args.sipf, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    run = pathlib.Path(args.run) if args.run else scratch / "run"
    if not args.run:
        sipf("run", "--run-dir", run, "--threads", args.threads, *more)
    for which, flags, name in (("demonstration", ["--limit", 10000], "demonstrations"),
                               ("solution", ["--skip", 10000, "--limit", 1500], "questions")):
        sipf("task", "export", "arith", "--which", which, *flags, "--out", scratch / f"{name}.jsonl")
    # The bundled simulator as a folder: one step of nothing at learning rate 0.
    sipf("sft", "--model", "tiny-strong", "--data", scratch / "questions.jsonl", "--limit", 1, "--max-steps", 1,
         "--learning-rate", 0, "--out", scratch / "strong")
    script = pathlib.Path(__file__).with_name("loop_trl.py")
    words = [sys.executable, script, "--run", run, "--demonstrations", scratch / "demonstrations.jsonl",
             "--questions", scratch / "questions.jsonl", "--strong", scratch / "strong", "--scale", args.scale,
             "--threads", args.threads]
    printed = subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, text=True).stdout
    peer, ours = json.loads(printed.splitlines()[-1])["stages"], json.loads((run / "timings.json").read_text())
    for name in sorted(set(ours) ^ set(peer)):
        print(f"only on one side, not counted: {name}", file=sys.stderr)
    both = {name: {"wall_s": ours[name]["wall_s"], "cpu_s": ours[name]["cpu_s"],
                   "peer_wall_s": peer[name]["wall_s_full"], "peer_cpu_s": peer[name]["cpu_s_full"]}
            for name in ours if name in peer}
    total = {key: round(sum(row[key] for row in both.values()), 1) for key in next(iter(both.values()))}
    return {**both, "total": total}


if __name__ == "__main__":
    main()
