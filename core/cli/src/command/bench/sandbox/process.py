"""One program, its setup and tests, from standard input; exit 0 when all ended normally."""

import json
import sys

row = json.load(sys.stdin)
space = {"__name__": "solution"}
for text in [row["source"], row["setup"], *row["tests"]]:
    exec(compile(text, "row.py", "exec"), space)
