"""Programs from standard input, one JSON object a line, each in a child forked from this warm interpreter; prints how
many ended normally. The first argument is how many run at once."""

import json
import os
import sys

import bisect, cmath, collections, copy, datetime, functools, gc, heapq, itertools, math, operator, random, re, string, typing  # noqa

workers = int(sys.argv[1])
rows = [json.loads(line) for line in sys.stdin]
nothing = os.open(os.devnull, os.O_RDWR)
gc.collect()
gc.freeze()


def child(row):
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    status = 1
    try:
        space = {"__name__": "solution"}
        for text in [row["source"], row["setup"], *row["tests"]]:
            exec(compile(text, "row.py", "exec"), space)
        status = 0
    except BaseException:
        pass
    os._exit(status)


running = passed = 0
for row in rows:
    if running == workers:
        passed += os.wait()[1] == 0
        running -= 1
    if os.fork() == 0:
        child(row)
    running += 1
for _ in range(running):
    passed += os.wait()[1] == 0
print(passed)
