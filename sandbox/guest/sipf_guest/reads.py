"""Which global names a piece of compiled code reads and writes, nested functions and classes included."""

from sipf_guest import own

__builtins__ = own.BUILTINS

import dis
import types

_READS = {dis.opmap[name] for name in ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")}
_READS_GLOBAL = dis.opmap["LOAD_GLOBAL"]
_WRITES = {dis.opmap[name] for name in ("STORE_NAME", "STORE_GLOBAL")}


def of(code, reads, writes):
    """Adds the names to the sets `reads` and `writes`."""
    names = code.co_names
    for _, _, op, argument in dis._unpack_opargs(code.co_code):
        if op == _READS_GLOBAL:
            reads.add(names[argument >> 1])
        elif op in _READS:
            reads.add(names[argument])
        elif op in _WRITES:
            writes.add(names[argument])
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            of(constant, reads, writes)
