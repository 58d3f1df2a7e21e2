"""The last thing done at build time: every instance starts from the memory that this leaves behind.

An instance's first write to a page costs a page fault, and page faults are most of what a short program costs.
So the interpreter's caches are filled here, and the holes in the heap are filled too: afterwards new objects
lie side by side in one free region instead of one in every page of the heap.
"""

from sipf_guest import own

__builtins__ = own.BUILTINS

import gc

from sipf_guest import judge, program
from sipf_guest.own import dumps

ROUNDS = 24
REGION = 6 << 20
_SOURCE = """
import math
from collections import Counter

class Point:
    def __init__(self, x): self.x = x

def f(x, *rest, **named):
    total = 0
    for i in range(3):
        if i % 2 == 0 and i >= 0: total += i
    return [x, (x, {x: "a"}), {1, 2}, 1.5, None, True, b"z", str(total), sorted(rest), Counter("aab")]
"""
_REQUESTS = (
    b'["names",["f","Point"],[],true]',
    b'["call",0,[1],{}]',
    b'{"q":["call",0,["a",{"t":[1,2]},{"d":[[1,"b"]]},[1,2,[3]]],{}],"n":0,"c":[],"d":[]}',
    b'{"q":["call",0,[[1,2],1.5,null,true],{"k":"v"}],"n":3,"c":[],"d":[]}',
    b'["call",1,[3],{}]',
)


def program_side():
    for _ in range(ROUNDS):
        program.load(_SOURCE)
        for request in _REQUESTS:
            program.call(request, dumps)
        program.forget()


def judge_side():
    for _ in range(ROUNDS):
        judge.check("x = 1", ["assert x == 1", "import math\nassert math.pi > x"], [])


def close_holes():
    """Holds on to every hole of the heap, then gives one large region back."""
    gc.collect()
    held = [None] * 400_000
    count = 0
    region = bytes(REGION)
    size = 1 << 19
    while size >= 0:
        while count < len(held):
            block = bytes(size)
            if id(block) > id(region):
                break
            held[count] = block
            count += 1
        size = size // 2 if size > 4096 else size - 8
    del block, region
    return held[:count]


def prepare():
    program_side()
    judge_side()
    gc.collect()
    held = close_holes()
    gc.collect()
    gc.freeze()
    return held
