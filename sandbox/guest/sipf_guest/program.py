"""The program's side: runs the model-written source and answers the judge. Nothing it says is believed."""

from sipf_guest import own

__builtins__ = own.BUILTINS

import builtins
import copy
import marshal
import math
import operator
import random
import sys
import types

from sipf_guest import both, codec

SEED = 20240229
_LIBRARY = sys.stdlib_module_names
_seed = random.seed
_modules = sys.modules
_attribute = operator.attrgetter
_out = sys.stdout
_bases = type.__dict__["__mro__"].__get__  # a metaclass may have its own idea of both
_parents = type.__dict__["__bases__"].__get__
_name = type.__dict__["__name__"].__get__

names = {}
_objects = []
_numbers = {}
_held = both.Held()  # containers that the judge holds too
_count = 0
_late = {}  # what an iterator raised when it was asked ahead, by its number


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
    global names, _held
    names = {}
    _held = both.Held()
    for table in (_objects, _numbers, _late):
        table.clear()
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


def _stays(x):
    """What stands for an object that no tag carries."""
    if isinstance(x, type) and issubclass(x, BaseException):
        return {"exc": _exception_class(x)}
    return _handle(x)


def _reference(kind):
    """An exception class: a builtin by name, one of the standard library by module and name, others by number."""
    name = _name(kind)
    if codec.TYPES.get(name) is kind:
        return name
    module = getattr(kind, "__module__", None)
    if type(module) is str and module.split(".")[0] in _LIBRARY and getattr(_modules.get(module), name, None) is kind:
        return [module, name]
    return _handle(kind)["r"][0]


def _exception_class(x):
    """The class after those of the program that it derives from, the first one first: reference, name, and bases."""
    table = []
    for kind in reversed(_bases(x)):
        if issubclass(kind, BaseException):
            reference = _reference(kind)
            if type(reference) is int or kind is x:
                bases = [_reference(base) for base in _parents(kind) if issubclass(base, BaseException)]
                table.append([reference, _name(kind), bases])
    return table


class _Answer:
    """One request of the judge, and what the program did with the containers that came with it."""

    def __init__(self, message):
        self.reader = codec.Reader(_object, _EXTRA, _held.containers, None)
        self.writer = codec.Writer(_stays, _held.numbers)
        self.base = 0
        self.values = []  # what was decoded: the one reference to it beside the program's own
        self.given = {}  # containers of the request, by number, and what they held
        self.before = {}
        self.request = message
        if type(message) is dict:
            self.request, self.base = message["q"], message["n"]
            for number, content in message["c"]:
                _held.become(number, self.take([content])[0])
                self.values.pop()
            for number in message["d"]:
                _held.drop(number)

    def take(self, js):
        """Decodes values of the judge; from now on, changes of their containers are the program's."""
        got = self.reader.got
        start = len(got)
        values = self.reader.all(js)
        self.values.append(values)
        for number, x in enumerate(got[start:], self.base + start):
            if type(x) in both.CHANGEABLE:
                self.given[number] = x
                self.before[number] = both.snapshot(x)
                _held.numbers[id(x)] = number
        return values

    def put(self, x):
        return self.writer.put(x)

    def failed(self, error):
        self.writer = codec.Writer(_stays, _held.numbers)
        try:
            details = [self.put(list(error.args)), self.put(dict(vars(error))), self.put(str(error)[:1000])]
        except BaseException:
            details = None
            self.writer = codec.Writer(_stays, _held.numbers)
        kind = type(error)
        return ["e", _name(kind), describe(error, "solution.py", 300), _exception_class(kind), details]

    def agree(self):
        """What the program changed, as `[number, content]`, and what it still holds: the number of a container of
        the request, or `[number in this message, new number]`. Called when nothing else refers to the values."""
        global _count
        got, kept, changes, keep = self.reader.got, self.writer.kept, [], set()
        if not (got or kept or _held.containers):
            return [[], []]
        changed = _held.changed()
        for number, x in self.given.items():
            before = self.before[number]
            if not both.same(before, both.snapshot(x)):
                changed.append((number, x, before))
        given = list(self.given)
        for number, x, before in changed:
            changes.append([number, self.writer.content(x)])
            # What it held may be held by something else now, which counting references would not tell.
            keep.update(id(item) for item in before if type(item) in both.CHANGEABLE)
        self.given = self.before = changed = before = x = None
        for place, count in enumerate(both.references(got)):
            if count > 1 + self.reader.more.get(place, 0) or place in self.reader.loose:
                keep.add(id(got[place]))
        for place, count in enumerate(both.references(kept)):
            if count > self.writer.uses[place] or place in self.writer.loose:
                keep.add(id(kept[place]))
        holds = []
        if keep:
            for x in got:
                if id(x) in keep and type(x) in both.CHANGEABLE:
                    _spread(x, keep)
            for outer, inner in self.writer.edges:
                if id(kept[outer]) in keep:
                    keep.add(id(kept[inner]))
        for number in given:
            x = got[number - self.base]
            if id(x) in keep:
                holds.append(number)
                _held.share(number, x)
            else:
                del _held.numbers[id(x)]
        if keep:
            for place, x in enumerate(kept):
                if id(x) in keep:
                    _count -= 1
                    holds.append([place, _count])
                    _held.share(_count, x)
        return [changes, holds]


def _spread(x, keep):
    """What is in a container that the program holds is held, too."""
    for item in both.inside(x):
        if id(item) not in keep:
            keep.add(id(item))
            _spread(item, keep)


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
    "mod": lambda reader, v: _modules[v],
}


def _named(answer, declared, inferred, values):
    found = {name: answer.put(names[name]) for name in declared if name in names}
    for name in inferred:
        if name in names:
            known = _library(names[name])
            if known is not None or values:
                found[name] = known or answer.put(names[name])
    return found


def _library(x):
    """How an object of the standard library is called there."""
    if type(x) is types.ModuleType:
        return {"mod": x.__name__}
    module, name = getattr(x, "__module__", None), getattr(x, "__qualname__", None)
    if type(module) is str and type(name) is str and module.split(".")[0] in _LIBRARY:
        if getattr(_modules.get(module), name, None) is x:
            return {"std": [module, name]}
    return None


def _call(answer, number, arguments, keywords):
    function = _objects[number]
    keys = list(keywords)
    given = answer.take(arguments + [keywords[key] for key in keys])
    count = len(arguments)
    return answer.put(function(*given[:count], **dict(zip(keys, given[count:]))))


def _next(answer, number, count):
    """Items of an iterator, whether it ended, and with what; one at a time where asking ahead could show."""
    if number in _late:
        raise _late.pop(number)
    out, iterator = [], _objects[number]
    for _ in range(1 if _held.containers else count):
        try:
            item = next(iterator)
        except StopIteration as end:
            return [out, True, answer.put(end.value)]
        except BaseException as error:
            if not out:
                raise
            _late[number] = error
            break
        out.append(answer.put(item))
        if answer.writer.kept:
            break
    return [out, False, None]


def _leave(x, kind, arguments):
    error = None if kind is None else kind(*arguments)
    return bool(type(x).__exit__(x, kind, error, None))


_OPERATORS = {
    name: getattr(operator, name)
    for name in "add sub mul truediv floordiv mod pow matmul and_ or_ xor lshift rshift lt le gt ge eq ne "
    "iadd isub imul itruediv ifloordiv imod ipow imatmul iand ior ixor ilshift irshift "
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
        "exit": _leave,
        "reversed": lambda x: list(reversed(x)),
        "divmod": divmod,
    }
)

_REQUESTS = {
    "names": _named,
    "call": _call,
    "getattr": lambda a, number, name: a.put(getattr(_objects[number], name)),
    "setattr": lambda a, number, name, v: setattr(_objects[number], name, a.take([v])[0]),
    "delattr": lambda a, number, name: delattr(_objects[number], name),
    "getitem": lambda a, number, v: a.put(_objects[number][a.take([v])[0]]),
    "op": lambda a, name, vs: a.put(_OPERATORS[name](*a.take(vs))),
    "len": lambda a, number: len(_objects[number]),
    "iter": lambda a, number: _handle(iter(_objects[number])),
    "next": _next,
}


def call(request, dumps):
    """Answers one request of the judge; `dumps` writes the reply as JSON text."""
    try:
        answer = _Answer(own.loads(request))
        try:
            name, *rest = answer.request
            reply = ["v", _REQUESTS[name](answer, *rest)]
        except BaseException as error:
            reply = answer.failed(error)
        reply.append(answer.agree())
        return dumps(reply).encode()
    except BaseException as error:  # a change that the codec does not carry, or a broken interpreter
        kind = type(error)
        name = _name(kind)
        _held.numbers.clear()
        _held.numbers.update({id(x): number for number, x in _held.containers.items()})
        return dumps(["e", name, describe(error, "solution.py", 300), _exception_class(kind), None, [[], []]]).encode()
    finally:
        _flush()
