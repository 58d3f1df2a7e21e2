"""The judge's view of the program: requests through the host, and objects that stay on the other side."""

from sipf_guest import own

__builtins__ = own.BUILTINS

import builtins
import collections
import array
import itertools
import marshal
import operator
import sys
import types

import wit_world
from sipf_guest import codec
from sipf_guest import reads as names_of

ITERATED = 100_000  # items of a test's iterator that are sent to the program


class Unsupported(BaseException):
    """The test needs what the codec does not carry."""


class Tampering(BaseException):
    """A reply that the codec never produces."""


class Died(BaseException):
    """The program's instance is gone; the host knows why."""


class RemoteExit(BaseException):
    """The program tried to leave while a test called it."""


class RemoteError(Exception):
    """An exception of the program that has no builtin class to stand for it."""


class Session:
    """What one check has seen of the program."""

    def __init__(self, by_value):
        self.by_value = by_value
        self.tampered = None
        self.dead = False
        self.remotes = self.delegated = self.lossy = self.unsupported = 0
        self.known = {}
        self.classes = {}
        self.quiet = False  # while the judge formats its own messages, the program is not asked


session = Session(False)
BUILTIN = {k: v for k, v in vars(builtins).items() if isinstance(v, type) and issubclass(v, Exception)}
_LEAVING = ("SystemExit", "KeyboardInterrupt", "GeneratorExit")
_NEEDS_MORE = (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError)
_STOPPING = ("send", "throw")  # methods of generators: StopIteration is how they end
_hidden = object.__getattribute__


def tampering(why):
    session.tampered = "bad reply: %s" % (why,)
    raise Tampering(session.tampered)


def unsupported(why):
    session.unsupported += 1
    raise Unsupported(why)


def ask(request, stops=False):
    """One request to the program; its value, or its exception raised here.

    Without `stops`, a `StopIteration` becomes a `RuntimeError`, as in a generator: raised by `f` inside
    `all(map(f, xs))` it would end the loop and leave nothing to test.
    """
    try:
        data = own.dumps(request).encode()
    except ValueError as error:
        unsupported(str(error))
    try:
        reply = own.loads(wit_world.invoke(data))
    except (ValueError, RecursionError) as error:
        tampering(error)
    if reply == ["dead"]:
        session.dead = True
        raise Died
    if type(reply) is not list or len(reply) < 2:
        tampering("shape")
    if reply[0] == "v" and len(reply) == 2:
        return reply[1]
    if reply[0] == "e" and len(reply) == 5 and type(reply[3]) is list:
        error = _error(str(reply[1]), str(reply[2]), reply[3], reply[4])
        if isinstance(error, StopIteration) and not stops:
            error = _as_told(RuntimeError(error._told), error._told)
        raise error
    tampering("tag")


def _as_told(error, text):
    """Marks an exception as the program's."""
    error._told = text
    return error


def _error(name, text, kinds, details):
    if any(kind in _LEAVING for kind in kinds if type(kind) is str):
        return RemoteExit(text)
    if name == "Unencodable":
        unsupported(text.removeprefix("Unencodable: "))
    classes = session.classes
    known = [kind for kind in kinds if type(kind) is str and (kind in classes or kind in BUILTIN)]
    kind = (classes.get(known[0]) or BUILTIN[known[0]]) if known else Exception
    if kind is Exception or kind in _NEEDS_MORE or issubclass(kind, BaseExceptionGroup):
        error = RemoteError(text)
    else:
        whole = type(details) is list and len(details) == 2
        arguments = read(details[0]) if whole else None
        try:
            error = kind(*arguments) if type(arguments) is list else kind(text)
        except TypeError:
            error = kind(text)
        if whole and name in classes:
            for key, value in (read(details[1]) or {}).items():
                if type(key) is str and not key.startswith("_"):
                    setattr(error, key, value)
    return _as_told(error, text)


def read(j):
    """A value of the program. What does not decode is tampering; what exhausts memory is the program's verdict."""
    reader = codec.Reader(_remote, _NOTHING)
    try:
        value = reader.get(j)
    except MemoryError:
        raise
    except Exception as error:
        if hasattr(error, "_told"):  # of a key that stays in the program, asked for its hash
            raise
        tampering(type(error).__name__)
    session.lossy += reader.lossy
    return value


_NOTHING = {}


def _remote(v):
    number, name = v
    if type(number) is not int or type(name) is not str:
        raise ValueError("handle")
    found = session.known.get(number)
    if found is None:
        session.remotes += 1
        found = session.known[number] = Remote(number, name[:60])
    return found


class _Sender(codec.Writer):
    """Writes the judge's values: functions as code, iterators as lists, library objects by name."""

    __slots__ = ()

    def other(self, x, kind, depth):
        if kind is Remote:
            return {"r": [_number(x), ""]}
        return codec.Writer.other(self, x, kind, depth)


def write_all(xs):
    sender = _Sender(None)
    sender.remote = lambda x: _send(sender, x)
    return [sender.put(x) for x in xs]


def write(x):
    return write_all([x])[0]


def _send(sender, x):
    kind = type(x)
    if kind is types.FunctionType:
        return _send_function(sender, x)
    module, name = getattr(x, "__module__", None), getattr(x, "__qualname__", None)
    if kind is type(str.upper):
        module = "builtins"
    if kind in (types.BuiltinFunctionType, type(str.upper), type) and type(module) is str and module in sys.modules:
        if module.split(".")[0] in sys.stdlib_module_names and type(name) is str:
            try:
                if operator.attrgetter(name)(sys.modules[module]) is x:
                    return {"std": [module, name]}
            except AttributeError:
                pass
    if isinstance(x, (types.GeneratorType, map, filter, zip, enumerate)) or kind.__name__.endswith("_iterator"):
        items = list(itertools.islice(x, ITERATED + 1))
        if len(items) <= ITERATED:
            return {"it": [sender.put(item, 1) for item in items]}
    unsupported("cannot send a value of type %s to the program" % kind.__name__)


def _send_function(sender, x):
    again = sender.again(x)
    if again is not None:
        return again
    space = x.__globals__
    cells = []
    for cell in x.__closure__ or ():
        try:
            cells.append([sender.put(cell.cell_contents, 1)])
        except ValueError:
            cells.append(None)
    reads = set()  # and no more than these: the test's other names are not the program's business
    names_of.of(x.__code__, reads, set())
    used = [
        [name, sender.put(space[name], 1)]
        for name in sorted(reads)
        if name in space and type(space[name]) is not types.ModuleType
    ]
    return {
        "fn": [
            marshal.dumps(x.__code__).hex(),
            x.__name__,
            sender.put(x.__defaults__, 1),
            used,
            cells,
            sender.put(x.__kwdefaults__, 1),
        ]
    }


def patch(mine, theirs):
    """Makes a container of the test look like the program left it, keeping inner containers' identity."""
    kind = type(mine)
    if kind is not type(theirs):
        return
    if kind is list:
        if len(mine) != len(theirs):
            mine[:] = theirs
            return
        for place, (a, b) in enumerate(zip(mine, theirs)):
            mine[place] = _inner(a, b)
    elif issubclass(kind, dict):
        if list(mine) == list(theirs):
            for key in theirs:
                mine[key] = _inner(mine[key], theirs[key])
        else:
            mine.clear()
            mine.update(theirs)
    elif kind is set:
        mine.clear()
        mine.update(theirs)
    elif kind is bytearray or kind is array.array:
        mine[:] = theirs
    elif kind is collections.deque:
        mine.clear()
        mine.extend(theirs)


def _inner(a, b):
    if type(a) in (list, dict, set) and type(a) is type(b):
        patch(a, b)
        return a
    return b


def _number(x):
    return _hidden(x, "_number")


def _operate(name, *xs):
    """An operator whose operands are all objects of the program is the program's business, and counted."""
    session.delegated += 1
    return read(ask(["op", name, write_all(xs)]))


def _binary(name):
    def operate(self, other):
        if type(other) is not Remote:
            mine, theirs = _hidden(self, "_kind"), type(other).__name__
            unsupported("operator %s between an object of the program (%s) and %s" % (name, mine, theirs))
        return _operate(name, self, other)

    return operate


def _reflected(name):
    def operate(self, other):
        unsupported("operator %s between %s and an object of the program" % (name, type(other).__name__))

    return operate


def _truth(value):
    return value is True


class Remote:
    """An object that stays in the program. It never decides an operator against a plain value."""

    __slots__ = ("_number", "_kind", "_stops")

    def __init__(self, number, kind):
        object.__setattr__(self, "_number", number)
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_stops", False)

    def __call__(self, *arguments, **keywords):
        keys = list(keywords)
        given = list(arguments) + [keywords[key] for key in keys]
        sent = write_all(given)
        count = len(arguments)
        reply = ask(["call", _number(self), sent[:count], dict(zip(keys, sent[count:]))], _hidden(self, "_stops"))
        if type(reply) is not list or len(reply) != 3 or type(reply[2]) is not dict:
            tampering("shape of a call's reply")
        how, value, changed = reply
        if not session.by_value:
            for place, now in changed.items():
                place = int(place) if place.isascii() and place.isdigit() and len(place) < 9 else len(given)
                if place >= len(given):
                    tampering("argument number")
                patch(given[place], read(now))
        if how == "m":
            return read(value)
        if how != "a" or type(value) is not int or not 0 <= value < len(given):
            tampering("argument number")
        return given[value]

    def __getattribute__(self, name):
        if name.startswith("__") and name.endswith("__") and name not in ("__name__", "__doc__", "__dict__"):
            return _hidden(self, name)
        value = read(ask(["getattr", _number(self), name]))
        if name in _STOPPING and type(value) is Remote:
            object.__setattr__(value, "_stops", True)
        return value

    def __setattr__(self, name, value):
        ask(["setattr", _number(self), name, write(value)])

    def __delattr__(self, name):
        ask(["delattr", _number(self), name])

    def __dir__(self):
        return _operate("dir", self)

    def __getitem__(self, key):
        return read(ask(["getitem", _number(self), write(key)]))

    def __setitem__(self, key, value):
        _operate("setitem", self, key, value)

    def __delitem__(self, key):
        _operate("delitem", self, key)

    def __contains__(self, x):
        if type(x) is Remote:
            return _truth(_operate("contains", self, x))
        try:  # whether a plain value is among the items is not the program's to say: they are compared here
            items = iter(self)
            first = next(items, self)
        except TypeError:
            unsupported("`in` between %s and an object of the program without items" % type(x).__name__)
        return first is not self and any(item is x or item == x for item in itertools.chain([first], items))

    def __eq__(self, other):
        return type(other) is Remote and (other is self or _truth(_operate("eq", self, other)))

    def __ne__(self, other):
        return not self.__eq__(other)

    def __hash__(self):
        return hash(_operate("hash", self))

    def __len__(self):
        length = ask(["len", _number(self)])
        if type(length) is not int or length < 0:
            tampering("len")
        return length

    def __bool__(self):
        return _truth(_operate("bool", self))

    def __str__(self):
        return self.__repr__() if session.quiet else _is_text(_operate("str", self))

    def __format__(self, form):
        return _is_text(_operate("format", self, form))

    def __repr__(self):
        if session.quiet:
            return "<%s of the program>" % _hidden(self, "_kind")
        return _is_text(_operate("repr", self))

    def __int__(self):
        return _operate("int", self)

    def __float__(self):
        return _operate("float", self)

    def __index__(self):
        return _operate("index", self)

    def __instancecheck__(self, x):
        return type(x) is Remote and _truth(_operate("isinstance", self, x))

    def __subclasscheck__(self, x):
        return type(x) is Remote and _truth(_operate("issubclass", self, x))

    def __enter__(self):
        return _operate("enter", self)

    def __exit__(self, *details):
        _operate("exit", self)
        return False

    def __neg__(self):
        return _operate("neg", self)

    def __pos__(self):
        return _operate("pos", self)

    def __invert__(self):
        return _operate("invert", self)

    def __abs__(self):
        return _operate("abs", self)

    def __round__(self, digits=None):
        return _operate("round", self) if digits is None else _operate("round", self, digits)

    def __trunc__(self):
        return _operate("trunc", self)

    def __floor__(self):
        return _operate("floor", self)

    def __ceil__(self):
        return _operate("ceil", self)

    def __copy__(self):
        return _operate("copy", self)

    def __deepcopy__(self, memo):
        return _operate("deepcopy", self)

    def __reduce_ex__(self, protocol):
        unsupported("pickling an object of the program")

    def __reversed__(self):
        return iter(_operate("reversed", self))

    def __iter__(self):
        iterator = read(ask(["iter", _number(self)]))
        if type(iterator) is not Remote:
            tampering("iter")
        count = 8
        while True:
            items, ended = _items(iterator, count)
            yield from items
            if ended:
                return
            count = min(count * 2, 1024)

    def __next__(self):
        items, _ = _items(self, 1)
        if not items:
            raise StopIteration
        return items[0]


def _items(iterator, count):
    reply = ask(["next", _number(iterator), count])
    if type(reply) is not list or len(reply) != 2 or type(reply[0]) is not list or type(reply[1]) is not bool:
        tampering("next")
    if len(reply[0]) > count or (not reply[0] and not reply[1]):
        tampering("next")
    return [read(item) for item in reply[0]], reply[1]


def _is_text(value):
    return value if type(value) is str else tampering("a text is missing")


for _name in "add sub mul truediv floordiv mod pow matmul lshift rshift lt le gt ge divmod".split():
    setattr(Remote, "__%s__" % _name, _binary(_name))
for _name in "and or xor".split():
    setattr(Remote, "__%s__" % _name, _binary(_name + "_"))
for _name in "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift divmod".split():
    setattr(Remote, "__r%s__" % _name, _reflected(_name))
