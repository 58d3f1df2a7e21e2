"""A task written as one Python file: every function named like a call of the plugin API answers that call.

    CARD = {"name": "sums", "summary": "additions", "domain": "math"}

    def generate(split, index): return {"a": index, "b": 2}
    def problems(row, split): return [{"question": f"{row.data['a']} + 2 = ?", "answer": str(row.data["a"] + 2)}]
    def prompt(problem, role): return problem.question + "\\n"
    def verify(problem, completion): return completion.strip() == problem.answer

What is not defined is the host's default. Rows, problems, outcomes and verdicts arrive as objects with
attributes and go back as dictionaries. `program(source, setup=, tests=, names=)` asks for a run first.
"""

from sipf_guest import own

__builtins__ = own.BUILTINS

import random
import sys
import types

from sipf_guest.program import SEED, describe

OK, FAILED, UNKNOWN, MALFORMED = 0, 1, 3, 4
_ARGUMENTS = {
    "source": ("split",),
    "generate": ("split", "index"),
    "problems": ("row", "split"),
    "prompt": ("problem", "role"),
    "verify": ("problem", "completion"),
    "judge": ("problem", "outcome"),
    "clean": ("problem", "raw"),
    "steps": ("problem", "completion"),
    "answer": ("completion",),
    "signature": ("problem", "completion"),
    "shots": (),
    "measure": ("problem", "completion", "verdict"),
    "step_truth": ("problem", "completion"),
    "fixtures": (),
}
_NEEDED = ("problems", "prompt", "verify")
_RECORDS = ("row", "problem", "outcome", "verdict")
_seed = random.seed
_space = {}


class Record(dict):
    """A JSON object whose keys are attributes too."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError("there is no key %r; there are %s" % (name, ", ".join(self) or "none")) from None


def _record(value):
    if type(value) is dict:
        return Record({k: _record(v) for k, v in value.items()})
    return [_record(x) for x in value] if type(value) is list else value


def program(source, setup="", tests=(), names=(), limits=None):
    """What `verify` returns to have a program run before the verdict."""
    return {
        "check": "run",
        "source": source,
        "setup": setup,
        "tests": list(tests),
        "names": list(names),
        "limits": limits or {},
    }


def load(source):
    """Runs the task file; empty when it is a task."""
    global _space
    _seed(SEED)
    module = types.ModuleType("task")
    module.__dict__.update({"program": program, "Record": Record})
    sys.modules["task"] = module
    _space = module.__dict__
    try:
        exec(compile(source, "task.py", "exec", dont_inherit=True), _space)
    except BaseException as error:
        return describe(error, "task.py")
    card = _space.get("CARD")
    if type(card) is not dict or type(card.get("name")) is not str:
        return "TaskError: the file defines no CARD = {\"name\": ..., \"summary\": ..., \"domain\": ...}"
    missing = [name for name in _NEEDED if not callable(_space.get(name))]
    if missing:
        return "TaskError: the file defines no function " + ", ".join(missing)
    return ""


def call(request):
    """Answers one plugin request: status and reply."""
    status, reply = _answer(request)
    return b"%d\n" % status + reply


def _answer(request):
    try:
        asked = own.loads_text(request)
        name, plugin = asked["call"], asked.get("plugin", "")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        return MALFORMED, describe(error).encode()
    card = _space["CARD"]
    _seed(SEED)
    try:
        if name == "manifest":
            return OK, own.dumps(_manifest(card)).encode()
        function = _space.get(name)
        if plugin != card["name"] or name not in _ARGUMENTS or not callable(function):
            return UNKNOWN, name.encode()
        given = [_record(asked[key]) if key in _RECORDS else asked[key] for key in _ARGUMENTS[name]]
        return OK, own.dumps(_shaped(name, function(*given), asked)).encode()
    except BaseException as error:
        return FAILED, describe(error, "task.py").encode("utf-8", "backslashreplace")


def _manifest(card):
    return {
        "api": {"major": 1, "minor": 0},
        "features": [],
        "name": card["name"],
        "version": str(_space.get("VERSION", "0")),
        "tasks": [card],
        "rewards": [],
        "panic": "unwind",
        "built_with": "python " + sys.version.split()[0],
    }


def _shaped(name, value, asked):
    """The forms that are natural in Python, as the wire has them."""
    if name == "verify":
        value = _verdict(value)
        return value if "check" in value else {"check": "verdict"} | value
    if name == "judge":
        return _verdict(value)
    if name == "generate":
        return value if "data" in value else {"index": asked["index"], "data": value}
    if name == "problems":
        return [_problem(p, k, len(value), asked) for k, p in enumerate(value)]
    if name == "fixtures":
        return [row if "data" in row else {"index": k, "data": row} for k, row in enumerate(value)]
    if name == "steps":
        return _steps(value, asked["completion"])
    if name == "signature" and type(value) is str:
        return {"signature": "exact", "text": value}
    if name == "measure" and isinstance(value, dict):
        return [{"name": k, "value": float(v)} for k, v in value.items()]
    return value


def _verdict(value):
    return {"passed": value} if type(value) is bool else dict(value)


def _problem(problem, number, count, asked):
    problem = dict(problem)
    if "id" not in problem:
        row = asked["row"]
        parts = [_space["CARD"]["name"], row.get("file") or asked["split"], str(row["index"])]
        problem["id"] = "/".join(parts + (["p%d" % number] if count > 1 else []))
    return problem


def _steps(value, text):
    out, at = [], 0
    for number, step in enumerate(value):
        if type(step) is dict or isinstance(step, Record):
            out.append(step)
            continue
        if type(step) is str:
            start = text.index(step, at)
            end = at = start + len(step)
        else:
            start, end = step
        start, end = len(text[:start].encode()), len(text[:end].encode())
        out.append({"start": start, "end": end, "chunk": number})
    return out
