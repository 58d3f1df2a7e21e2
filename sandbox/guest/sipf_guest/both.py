"""Containers that program and judge both hold.

Each side has a copy of its own. With every message a side tells what it changed since the last one, so that a list
that the program kept, and the same list in the test, stay equal. A container is held by both only while each side has
a reference of its own to it, which the interpreter's reference counts tell.
"""

from sipf_guest import own

__builtins__ = own.BUILTINS

import array
import collections
import itertools
import operator
import sys

CHANGEABLE = frozenset(
    (
        list,
        dict,
        set,
        bytearray,
        collections.deque,
        collections.OrderedDict,
        collections.Counter,
        collections.defaultdict,
        array.array,
    )
)
_references = sys.getrefcount
_same = operator.is_
_items = itertools.chain.from_iterable


def references(xs):
    """How many references to each item there are beside that of `xs` itself."""
    return [count - _alone for count in map(_references, xs)]


_alone = list(map(_references, [[]]))[0]


class Held:
    """The containers that both sides hold, by number."""

    __slots__ = ("containers", "told", "numbers", "flat")

    def __init__(self):
        self.containers = {}
        self.told = {}  # number -> what it held when the other side was last told
        self.numbers = {}  # id -> number
        self.flat = None  # what all of them held, to see in one go that nothing was changed

    def share(self, number, x):
        self.containers[number] = x
        self.told[number] = snapshot(x)
        self.numbers[id(x)] = number
        if self.flat is not None:
            for all, more in zip(self.flat, _flat([x])):
                all += more

    def become(self, number, content):
        """Takes over what the other side changed."""
        x = self.containers[number]
        become(x, content)
        self.told[number] = snapshot(x)
        self.flat = None

    def drop(self, number):
        del self.numbers[id(self.containers.pop(number))], self.told[number]
        self.flat = None

    def changed(self):
        """Number, container, and what it held, of those that were changed here since the last call."""
        if not self.containers:
            return []
        flat = _flat(self.containers.values())
        if self.flat is not None and self.flat[0] == flat[0] and all(map(same, self.flat[1:], flat[1:])):
            return []
        out = []
        for number, x in self.containers.items():
            before, now = self.told[number], snapshot(x)
            if not same(before, now):
                out.append((number, x, before))
                self.told[number] = now
        self.flat = flat
        return out

    def alone(self):
        """The numbers of those that nothing else on this side refers to."""
        xs = self.containers.values()
        if not xs or min(map(_references, xs)) > _alone:
            return []
        return [number for number, count in zip(self.containers, references(xs)) if count <= 0]


def _flat(xs):
    tables = [x.values() for x in xs if isinstance(x, dict)]
    return list(map(len, xs)), list(_items(xs)), list(_items(tables))


def snapshot(x):
    """What a container holds; equal to a later snapshot by `same` when nothing was changed."""
    kind = type(x)
    if kind is bytearray or kind is array.array:
        return x.tobytes() if kind is array.array else bytes(x)
    if kind is list or kind is set or kind is collections.deque:
        return list(x)
    return list(x) + list(x.values())


def same(before, now):
    """Whether two snapshots hold the very same objects: their `==` belongs to whoever wrote it."""
    if type(now) is bytes:
        return now == before
    return len(now) == len(before) and all(map(_same, now, before))


def become(mine, theirs):
    """Gives a container the content of another one of its type."""
    kind = type(mine)
    if kind is list or kind is bytearray or kind is array.array:
        mine[:] = theirs
    elif kind is collections.deque:
        mine.clear()
        mine.extend(theirs)
    else:
        mine.clear()
        mine.update(theirs)


def inside(x, depth=0):
    """The containers directly in a container, through tuples."""
    for item in x.values() if isinstance(x, dict) else x if type(x) not in (bytearray, array.array) else ():
        if type(item) in CHANGEABLE:
            yield item
        elif type(item) is tuple and depth < 60:
            yield from inside(item, depth + 1)
