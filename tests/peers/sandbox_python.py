"""Verdicts a second of `sipf sandbox batch` beside its peers, in one run on one machine.

    python tests/peers/sandbox_python.py --sipf target/release/sipf --mbpp DATA/mbpp/mbpp.jsonl --workers 2 --rounds 3

Peers: one `python3 -I -S` process a program (what most projects do), and children forked from a warm interpreter (no
isolation at all). Rows are MBPP's references without task 123, which alone takes seconds. Every side runs program,
setup and tests of each row; every verdict must be a pass. Rounds alternate, the best of each side counts, and CPU
time (user + system, children included) is what to compare on a machine that others use too.
"""

import argparse
import ast
import json
import os
import queue
import resource
import select
import subprocess
import sys
import tempfile
import threading
import time

DRIVER = """
import json, sys
r = json.load(sys.stdin)
env = {"__name__": "solution"}
exec(compile(r["program"], "solution.py", "exec"), env)
if r["setup"]: exec(compile(r["setup"], "setup.py", "exec"), env)
for t in r["tests"]: exec(compile(t, "test.py", "exec"), env)
"""


def rows(path):
    found = []
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        if row["task_id"] == 123:
            continue
        read = {n.id for text in [row["test_setup_code"], *row["test_list"]] for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
        made = {getattr(n, "name", None) for n in ast.parse(row["code"]).body}
        found.append({"id": row["task_id"], "program": row["code"], "setup": row["test_setup_code"], "tests": row["test_list"], "names": sorted(read & made)})
    return found


def processes(data, workers):
    left, passed = queue.Queue(), []
    for row in data:
        left.put(json.dumps(row).encode())

    def work():
        while True:
            try:
                row = left.get_nowait()
            except queue.Empty:
                return
            ended = subprocess.run([sys.executable, "-I", "-S", "-c", DRIVER], input=row, capture_output=True, timeout=60)
            passed.append(ended.returncode == 0)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(passed)


def forked_child(row, write):
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    verdict = b"f"
    try:
        env = {"__name__": "solution"}
        for text in [row["program"], row["setup"], *row["tests"]]:
            exec(compile(text, "row.py", "exec"), env)
        verdict = b"p"
    except BaseException:
        pass
    os.write(write, verdict)
    os._exit(0)


def forks(data, workers):
    import bisect, cmath, collections, copy, datetime, functools, gc, heapq, itertools, math, operator, random, re, string, typing  # noqa

    gc.collect()
    gc.freeze()
    pipes = []
    for worker in range(workers):
        read, write = os.pipe()
        if os.fork() == 0:
            passed = 0
            for row in data[worker::workers]:
                r, w = os.pipe()
                child = os.fork()
                if child == 0:
                    forked_child(row, w)
                os.close(w)
                select.select([r], [], [], 60)
                passed += os.read(r, 1) == b"p"
                os.waitpid(child, 0)
                os.close(r)
            os.write(write, b"%d" % passed)
            os._exit(0)
        os.close(write)
        pipes.append(read)
    passed = sum(int(os.read(read, 32)) for read in pipes)
    for _ in pipes:
        os.wait()
    return passed


def sandbox(binary, path, count, workers):
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "sandbox", "batch", path, "--out", os.path.join(folder, "out.jsonl"), "--threads", str(workers), "--json"]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["passed"]


def cpu():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sipf", required=True)
    parser.add_argument("--mbpp", required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    data = rows(args.mbpp)[: args.limit]
    best = {}
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(row) + "\n" for row in data)
        file.flush()
        sandbox(args.sipf, file.name, len(data), args.workers)  # compiled code into the cache
        sides = {
            "sipf": lambda: sandbox(args.sipf, file.name, len(data), args.workers),
            "process": lambda: processes(data, args.workers),
            "fork": lambda: forks(data, args.workers),
        }
        for _ in range(args.rounds):
            for name, side in sides.items():
                wall, used = time.perf_counter(), cpu()
                passed = side()
                wall, used = time.perf_counter() - wall, cpu() - used
                assert passed == len(data), f"{name}: {passed} of {len(data)} passed"
                figures = {"verdicts_per_s": round(len(data) / wall, 1), "cpu_ms_per_verdict": round(1e3 * used / len(data), 2)}
                old = best.get(name, figures)
                best[name] = {
                    "verdicts_per_s": max(old["verdicts_per_s"], figures["verdicts_per_s"]),
                    "cpu_ms_per_verdict": min(old["cpu_ms_per_verdict"], figures["cpu_ms_per_verdict"]),
                }
    best["process / sipf, wall"] = round(best["sipf"]["verdicts_per_s"] / best["process"]["verdicts_per_s"], 2)
    best["process / sipf, CPU"] = round(best["process"]["cpu_ms_per_verdict"] / best["sipf"]["cpu_ms_per_verdict"], 2)
    print(json.dumps({"rows": len(data), "workers": args.workers, "rounds": args.rounds, "python": sys.version.split()[0], **best}, indent=1))


if __name__ == "__main__":
    main()
