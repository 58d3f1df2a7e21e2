"""Which names a piece of compiled code uses; nested functions and classes included."""

from sipf_guest import own

__builtins__ = own.BUILTINS

import dis
import enum
import sys
import types

_READS = {dis.opmap[name] for name in ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")}
_READS_GLOBAL = dis.opmap["LOAD_GLOBAL"]
_WRITES = {dis.opmap[name] for name in ("STORE_NAME", "STORE_GLOBAL")}
_ALTERS = {dis.opmap[name] for name in ("STORE_ATTR", "DELETE_ATTR")}
_IMPORTS = dis.opmap["IMPORT_NAME"]
_CALLS_INTRINSIC = dis.opmap["CALL_INTRINSIC_1"]
_IMPORT_STAR = dis._intrinsic_1_descs.index("INTRINSIC_IMPORT_STAR")
_ALTERING = frozenset(
    "delattr getattr attrgetter methodcaller update_wrapper vars globals exec eval compile open breakpoint patch register "
    "__all__ __builtins__ __code__ __defaults__ __delattr__ __dict__ __globals__ __import__ __kwdefaults__ __setattr__ "
    "__subclasses__".split()
)
# Modules that keep nothing of what is done with them, but by their changeable objects; random and decimal are set anew.
_HARMLESS = frozenset(
    "__future__ abc array bisect cmath collections collections.abc copy dataclasses datetime decimal enum fractions functools "
    "heapq itertools json math numbers operator random re statistics string textwrap time typing".split()
)
_LASTING = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    tuple,
    frozenset,
    type(None),
    type(Ellipsis),
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodDescriptorType,
    enum.Enum,
    type,
)


class Names:
    """The names in code: of globals that it reads and writes, and every name in it, of attributes too."""

    def __init__(self):
        self.reads = set()
        self.writes = set()
        self.all = set()
        self.imports = set()
        self.alters = False

    def add(self, code):
        names = code.co_names
        self.all.update(names)
        for _, _, op, argument in dis._unpack_opargs(code.co_code):
            if op == _READS_GLOBAL:
                self.reads.add(names[argument >> 1])
            elif op in _READS:
                self.reads.add(names[argument])
            elif op in _WRITES:
                self.writes.add(names[argument])
            elif op == _IMPORTS:
                self.imports.add(names[argument])
            elif op in _ALTERS or op == _CALLS_INTRINSIC and argument == _IMPORT_STAR:
                self.alters = True
        for constant in code.co_consts:
            if type(constant) is types.CodeType:
                self.add(constant)

    def may_alter(self, space):
        """Whether the code may change something that outlives it: it sets attributes, uses a name by which that can
        be done, or an object of a module that can be changed. Rather once too often than once too seldom."""
        names = self.all
        if self.alters or any(n in _ALTERING or n[:3] == "set" and n not in ("set", "setdefault") for n in names):
            return True
        modules = [value for value in space.values() if type(value) is types.ModuleType]
        if not _HARMLESS.issuperset(self.imports) or not all(module.__name__ in _HARMLESS for module in modules):
            return True
        modules += [sys.modules[name] for name in self.imports]
        if any(not names.isdisjoint(changeable(module)) for module in modules):
            return True
        return not all(map(lasts, space.values()))


def lasts(value):
    """Whether a module's object cannot be changed without setting its attributes."""
    return isinstance(value, _LASTING) or type(value).__module__ in ("typing", "datetime", "re")


def changeable(module):
    """The names of a module's objects that can be changed."""
    found = _changeable.get(id(module))
    if found is None:
        found = [name for name, value in vars(module).items() if name[:2] != "__" and not lasts(value)]
        found = _changeable[id(module)] = frozenset(found)
    return found


_changeable = {}
