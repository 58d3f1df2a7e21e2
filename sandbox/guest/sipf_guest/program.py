"""The program's side: runs the model-written source and answers the judge. Nothing it says is believed."""

from sipf_guest import own

__builtins__ = own.BUILTINS

import array
import builtins
import collections
import copy
import marshal
import math
import operator
import random
import sys
import types

from sipf_guest import codec

SEED = 20240229
CHANGEABLE = (list, dict, set, bytearray, collections.deque, collections.OrderedDict, collections.Counter, array.array)
_LIBRARY = sys.stdlib_module_names
_seed = random.seed
_modules = sys.modules
_attribute = operator.attrgetter
_out = sys.stdout
_bases = type.__dict__["__mro__"].__get__  # a metaclass may have its own idea of both
_name = type.__dict__["__name__"].__get__

names = {}
_objects = []
_numbers = {}


def describe(error, source=None, limit=400):
    """`Type: message`, with the line of `source` where it happened."""
    try:
        text = str(error)[:limit]
    except BaseException:
        text = "?"
    line = None
    if source is not None:
        place = error.__traceback__
        while place is not None:
            if place.tb_frame.f_code.co_filename == source:
                line = place.tb_lineno
            place = place.tb_next
    name = _name(type(error))
    whole = "%s: %s" % (name, text) if line is None else "%s: %s (line %d)" % (name, text, line)
    return whole.encode("utf-8", "backslashreplace").decode()


def load(source):
    """Runs the program as the module `solution`; empty when that worked."""
    global names
    _seed(SEED)  # otherwise the state is the one that was baked in when the component was built
    module = types.ModuleType("solution")
    _modules["solution"] = module
    names = module.__dict__
    if source[:1] == "\ufeff":
        source = source[1:]
    try:
        code = compile(source, "solution.py", "exec", dont_inherit=True)
    except BaseException as error:
        return describe(error)
    try:
        exec(code, names)
        _annotations(names)
    except SyntaxError as error:  # of something that the program itself compiles
        return "Error: " + describe(error, "solution.py")
    except BaseException as error:
        return describe(error, "solution.py")
    finally:
        _flush()
    return ""


def _flush():
    """Printed text reaches the host now; what replaced `sys.stdout` is the program's own business."""
    try:
        _out.flush()
    except Exception:
        pass


def forget():
    """As before the first program: for the component's build."""
    global names
    names = {}
    _objects.clear()
    _numbers.clear()
    _modules.pop("solution", None)


def _annotations(space):
    """Evaluates signatures as Python before 3.14 did, so that a missing import is an error here too."""
    for value in list(space.values()):
        if type(value) is types.FunctionType and value.__annotate__ is not None:
            value.__annotations__
        elif type(value) is type and value.__module__ == "solution":
            for member in list(vars(value).values()):
                if type(member) is types.FunctionType and member.__annotate__ is not None:
                    member.__annotations__


def _handle(x):
    number = _numbers.get(id(x))
    if number is None:
        number = _numbers[id(x)] = len(_objects)
        _objects.append(x)
    return {"r": [number, type(x).__name__[:60]]}


def _object(v):
    return _objects[v[0]]


def _write(x):
    return codec.Writer(_handle).put(x)


def _reader():
    return codec.Reader(_object, _EXTRA)


def _read(j):
    return _reader().get(j)


def _function(reader, v):
    """A function of the test: its code with the globals and cells that it uses."""
    code, name, defaults, used, cells, keywords = v
    space = dict(names)
    made = types.FunctionType(
        marshal.loads(bytes.fromhex(code)), space, name, None, tuple([types.CellType() for _ in cells])
    )
    reader.got.append(made)
    for cell, value in zip(made.__closure__ or (), cells):
        if value is not None:
            cell.cell_contents = reader.get(value[0])
    for key, value in used:
        space[key] = reader.get(value)
    made.__defaults__ = reader.get(defaults)
    made.__kwdefaults__ = reader.get(keywords)
    return made


_EXTRA = {
    "fn": _function,
    "it": lambda reader, v: iter(reader.all(v)),
    "std": lambda reader, v: _attribute(v[1])(_modules[v[0]]),
}


def _named(declared, inferred):
    found = {name: _bound(names[name], False) for name in declared if name in names}
    found.update({name: _bound(names[name], True) for name in inferred if name in names})
    return found


def _bound(x, inferred):
    if inferred:
        if type(x) is types.ModuleType:
            return {"mod": x.__name__}
        module, name = getattr(x, "__module__", None), getattr(x, "__qualname__", None)
        if type(module) is str and type(name) is str and module.split(".")[0] in _LIBRARY:
            if getattr(_modules.get(module), name, None) is x:
                return {"std": [module, name]}
    if isinstance(x, type) and issubclass(x, Exception):
        return {"exc": [x.__name__, [base.__name__ for base in x.__mro__[1:]], _handle(x)]}
    return _write(x)


def _call(number, arguments, keywords):
    function = _objects[number]
    keys = list(keywords)
    given = _reader().all(arguments + [keywords[key] for key in keys])
    count = len(arguments)
    before = [_write(x) if type(x) in CHANGEABLE else None for x in given]
    result = function(*given[:count], **dict(zip(keys, given[count:])))
    changed = {}
    for place, x in enumerate(given):
        if type(x) in CHANGEABLE:
            try:
                now = _write(x)
            except Exception:
                continue
            if now != before[place]:
                changed[place] = now
    for place, x in enumerate(given):
        if x is result and type(x) in CHANGEABLE:
            return ["a", place, changed]  # it returned the argument itself
    return ["m", _write(result), changed]


def _next(number, count):
    out, iterator = [], _objects[number]
    for _ in range(count):
        try:
            out.append(_write(next(iterator)))
        except StopIteration:
            return [out, True]
    return [out, False]


_OPERATORS = {
    name: getattr(operator, name)
    for name in "add sub mul truediv floordiv mod pow matmul and_ or_ xor lshift rshift lt le gt ge eq ne "
    "neg pos abs invert contains index setitem delitem".split()
}
_OPERATORS.update(
    {
        "str": str,
        "repr": repr,
        "bool": bool,
        "hash": hash,
        "int": int,
        "float": float,
        "format": format,
        "isinstance": lambda kind, x: isinstance(x, kind),
        "issubclass": lambda kind, x: issubclass(x, kind),
        "dir": dir,
        "round": round,
        "trunc": math.trunc,
        "floor": math.floor,
        "ceil": math.ceil,
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
        "enter": lambda x: type(x).__enter__(x),
        "exit": lambda x: type(x).__exit__(x, None, None, None),
        "reversed": lambda x: list(reversed(x)),
        "divmod": divmod,
    }
)

_REQUESTS = {
    "names": _named,
    "call": _call,
    "getattr": lambda number, name: _write(getattr(_objects[number], name)),
    "setattr": lambda number, name, v: _write(setattr(_objects[number], name, _read(v))),
    "delattr": lambda number, name: _write(delattr(_objects[number], name)),
    "getitem": lambda number, v: _write(_objects[number][_read(v)]),
    "op": lambda name, vs: _write(_OPERATORS[name](*_reader().all(vs))),
    "len": lambda number: len(_objects[number]),
    "iter": lambda number: _handle(iter(_objects[number])),
    "next": _next,
}


def call(request, dumps):
    """Answers one request of the judge; `dumps` writes the reply as JSON text."""
    try:
        name, *rest = own.loads(request)
        return dumps(["v", _REQUESTS[name](*rest)]).encode()
    except BaseException as error:
        try:
            details = [_write(list(error.args)), _write(vars(error))]
        except BaseException:
            details = None
        kinds = [_name(kind) for kind in _bases(type(error))]
        text = describe(error, "solution.py", 300)
        return dumps(["e", _name(type(error)), text, kinds, details]).encode()
    finally:
        _flush()


def exceptions():
    """The builtin exception classes by name."""
    return {k: v for k, v in vars(builtins).items() if isinstance(v, type) and issubclass(v, Exception)}
