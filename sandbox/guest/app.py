"""The component's exports: one file of doors, the rooms are in `sipf_guest`."""

from sipf_guest import own, stdlib

__builtins__ = own.BUILTINS

import gc

import wit_world
from sipf_guest import judge, program, task


class WitWorld(wit_world.WitWorld):
    def load(self, source: str) -> str:
        return program.load(source)

    def call(self, request: bytes) -> bytes:
        return program.call(request)

    def check(self, setup: str, tests: list[str], names: list[str]) -> str:
        return judge.check(setup, tests, names)

    def task_load(self, source: str) -> str:
        return task.load(source)

    def task_call(self, request: bytes) -> bytes:
        return task.call(request)


# A first round of everything, so that caches are warm in the snapshot that every instance starts from.
program.load("def f(x):\n    return [x, (x, {x: 'a'})]\n")
program.call(b'["names",["f"],[]]')
program.call(b'["call",0,[1],{}]')
program.load("")
program._objects.clear()
program._numbers.clear()
gc.collect()
gc.freeze()
