"""The component's exports: one file of doors, the rooms are in `sipf_guest`."""

from sipf_guest import own, stdlib

__builtins__ = own.BUILTINS

import wit_world
from sipf_guest import judge, program, task, warm
from sipf_guest.own import dumps as _dumps


class WitWorld(wit_world.WitWorld):
    def load(self, source: str) -> str:
        return program.load(source)

    def call(self, request: bytes) -> bytes:
        return program.call(request, _dumps)

    def check(self, setup: str, tests: list[str], names: list[str]) -> str:
        return judge.check(setup, tests, names)

    def task_load(self, source: str) -> str:
        return task.load(source)

    def task_call(self, request: bytes) -> bytes:
        return task.call(request)


_held = warm.prepare()
