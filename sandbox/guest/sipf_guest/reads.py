"""Which global names a piece of compiled code reads and writes, and whether it may change a module; nested functions
and classes included."""

from sipf_guest import own

__builtins__ = own.BUILTINS

import dis
import types

_READS = {dis.opmap[name] for name in ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")}
_READS_GLOBAL = dis.opmap["LOAD_GLOBAL"]
_WRITES = {dis.opmap[name] for name in ("STORE_NAME", "STORE_GLOBAL")}
_ALTERS = {dis.opmap[name] for name in ("STORE_ATTR", "DELETE_ATTR")}
_ALTERING = frozenset(
    "delattr __dict__ __builtins__ vars globals exec eval modules environ patch register warnings logging gc atexit "
    "signal codecs copyreg".split()
)


def of(code, reads, writes):
    """Adds the names to the sets `reads` and `writes`; true when the code may change what outlives it, as a module: it
    sets attributes, or uses a name by which that can be done. Rather once too often than once too seldom."""
    names = code.co_names
    alters = any(n in _ALTERING or n[:3] == "set" and n not in ("set", "setdefault") for n in names)
    for _, _, op, argument in dis._unpack_opargs(code.co_code):
        if op == _READS_GLOBAL:
            reads.add(names[argument >> 1])
        elif op in _READS:
            reads.add(names[argument])
        elif op in _WRITES:
            writes.add(names[argument])
        elif op in _ALTERS:
            alters = True
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            alters |= of(constant, reads, writes)
    return alters
