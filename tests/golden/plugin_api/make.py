"""Records what a plugin answers, as a host that shares no code with sipf: four C functions and JSON.

    cargo build --manifest-path tests/plugins/Cargo.toml --example every_call --target-dir target/plugins
    python3 make.py target/plugins/debug/examples/libevery_call.so > 1.0.jsonl

A line is {"request", "status", "reply"}; the reply is JSON where the status is 0, text otherwise. The file of an API
version is written once, when that version is released, and never again.
"""

import ctypes
import json
import sys


class Buffer(ctypes.Structure):
    _fields_ = [("ptr", ctypes.c_void_p), ("len", ctypes.c_size_t)]


library = ctypes.CDLL(sys.argv[1])
library.sipf_abi.restype = ctypes.c_uint32
library.sipf_call.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(Buffer)]
library.sipf_call.restype = ctypes.c_int32
library.sipf_free.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
library.sipf_free.restype = None
assert library.sipf_abi() == 1


def call(request):
    text = json.dumps(request, separators=(",", ":"), ensure_ascii=False).encode()
    reply = Buffer()
    status = library.sipf_call(text, len(text), ctypes.byref(reply))
    said = ctypes.string_at(reply.ptr, reply.len).decode() if reply.ptr else ""
    library.sipf_free(reply.ptr, reply.len)
    line = {"request": request, "status": status, "reply": json.loads(said) if status == 0 else said}
    print(json.dumps(line, separators=(",", ":"), ensure_ascii=False))
    return line["reply"]


def task(name, **arguments):
    return call({**arguments, "plugin": "every-call", "call": name})


call({"plugin": "", "call": "manifest"})
for split in ("train", "validation", "test"):
    task("source", split=split)
row = task("generate", split="train", index=40)
task("generate", split="test", index=0)
(problem,) = task("problems", row=row, split="train")
task("problems", row={"file": "sums", "index": 3, "data": {"a": 1}}, split="test")
for role in ("policy", "simulator", "few_shot"):
    task("prompt", problem=problem, role=role)
for completion in ("40 + 2 = 42\n#### 42", "42", "", "program def f():\n    return 42"):
    task("verify", problem=problem, completion=completion)
outcome = {
    "verdict": "failed_assertion",
    "tests": [{"verdict": "passed", "message": ""}, {"verdict": "failed_assertion", "message": "3 == 4"}],
    "message": "",
    "fuel": 9,
    "memory_bytes": 65536,
    "limit_hit": False,
    "counters": {"remotes": 1, "delegated": 2, "lossy": 3, "unsupported": 4},
    "stdout": "é\n",
}
task("judge", problem=problem, outcome=outcome)
task("clean", problem=problem, raw="  text \n\n")
task("steps", problem=problem, completion="one\n\n  zwei – é\n#### 3")
task("answer", completion="so\n#### 42\nmore")
task("answer", completion="none")
for completion in ("", "ab", "abcdef", "much longer than that"):
    task("signature", problem=problem, completion=completion)
task("shots")
verdict = {"passed": True, "by_rule": {"sum": True, "text": False}, "answer": "42", "message": None}
task("measure", problem=problem, completion="abc", verdict=verdict)
task("step_truth", problem=problem, completion="one\ntwo")
task("fixtures")


def reward(name, **arguments):
    return call({**arguments, "plugin": "every-reward", "call": name})


reward("layout", problem=problem, steps=["one", "two"])
reward("aggregate", scores=[0.25, 0.5])
# What a plugin does not know, and what nobody should send.
task("layout", problem=problem, steps=[])
task("a_call_of_the_future", problem=problem)
call({"plugin": "nobody", "call": "shots"})
task("prompt", role="policy")
call({"plugin": "every-call"})
