"""Values as JSON: scalars and lists as they are, everything else a one-key object.

`Writer` and `Reader` hold one message's state. No tag makes the reader import, call or unpickle
anything; the two tags that carry code (`fn`, `std`) exist only on the program's side.
"""

from sipf_guest import own

__builtins__ = own.BUILTINS

import array
import builtins
import collections
import datetime
import decimal
import fractions
import pathlib

DEPTH = 60
ROOT, LOOSE = -1, -2
DIGITS = 2000  # bits; below the smallest limit that a program can set with sys.set_int_max_str_digits
_KEYS, _VALUES, _ITEMS = type({}.keys()), type({}.values()), type({}.items())
_EXACT = (int, float, str, list, tuple, dict, set, frozenset, bytes)
TYPES = {name: value for name, value in vars(builtins).items() if type(value) is type}
SINGLE = {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}
_TIMES = {
    "date": (datetime.date, 3),
    "datetime": (datetime.datetime, 7),
    "time": (datetime.time, 4),
    "timedelta": (datetime.timedelta, 3),
}


class Unencodable(Exception):
    """The value is one that the codec does not carry."""


def lone_surrogate(text):
    if text.isascii():
        return False
    try:
        text.encode()
        return False
    except UnicodeEncodeError:
        return True


class Writer:
    """Writes the values of one message.

    `remote(x)` says what stands for an object that stays where it is; `both` has the numbers of the containers that
    the other side holds too, by `id`.
    """

    __slots__ = ("remote", "both", "seen", "kept", "uses", "edges", "loose", "outer", "behaviours")

    def __init__(self, remote, both):
        self.remote = remote
        self.both = both
        self.seen = {}  # id -> number of a mutable container already written: aliases and cycles
        self.kept = []
        self.uses = []  # how many containers of the message hold it
        self.edges = []  # (container, container in it)
        self.loose = set()  # containers in something that is not itself a numbered container
        self.outer = ROOT
        self.behaviours = {}

    def put(self, x, depth=0):
        kind = type(x)
        if kind is int:
            return x if x.bit_length() < DIGITS else {"h": hex(x)}
        if kind is str:
            return {"s": [ord(c) for c in x]} if lone_surrogate(x) else x
        if kind is bool or x is None or kind is float:
            return x
        if depth > DEPTH:
            raise Unencodable("a value nested deeper than %d" % DEPTH)
        write = _WRITE.get(kind)
        if write is not None:
            return write(self, x, depth + 1)
        return self.other(x, kind, depth + 1)

    def all(self, xs, depth):
        put = self.put
        return [put(x, depth) for x in xs]

    def pairs(self, xs, depth):
        put = self.put
        return [[put(a, depth), put(b, depth)] for a, b in xs]

    def within(self, number, body, x, depth):
        outer, self.outer = self.outer, number
        written = body(self, x, depth)
        self.outer = outer
        return written

    def again(self, x):
        """The reference to a container that the other side has, or `None` after giving it the next number."""
        number = self.both.get(id(x))
        if number is not None:
            return {"k": number}
        number = self.seen.get(id(x))
        known = number is not None
        if not known:
            number = self.seen[id(x)] = len(self.kept)
            self.kept.append(x)
            self.uses.append(0)
        if self.outer >= 0:
            self.uses[number] += 1
            self.edges.append((self.outer, number))
        elif self.outer == LOOSE:
            self.loose.add(number)
        return {"&": number} if known else None

    def content(self, x):
        """A container as it is now, whatever the other side knows of it."""
        return self.put(_COPY.get(type(x), type(x))(x))

    def other(self, x, kind, depth):
        if x is Ellipsis:
            return {"bt": "Ellipsis"}
        if x is NotImplemented:
            return {"bt": "NotImplemented"}
        if kind is type and TYPES.get(x.__name__) is x:
            return {"bt": x.__name__}
        if isinstance(x, tuple) and kind.__eq__ is tuple.__eq__:
            fields = getattr(kind, "_fields", None)
            if type(fields) is tuple and len(fields) == tuple.__len__(x):
                names = self.behaviour(x, kind, tuple)
                if names is None:
                    return self.remote(x)
                whole = [kind.__name__, list(fields), self.within(LOOSE, Writer.all, tuple.__iter__(x), depth)]
                names = [name for name in names if name not in fields]
                return self.special(x, kind, {"nt": whole}, names) if names else {"nt": whole}
        # A subclass that compares like its base goes as the base value, counted as lossy.
        for base in _EXACT:
            if isinstance(x, base) and kind.__eq__ is base.__eq__ and kind.__ne__ is base.__ne__:
                names = self.behaviour(x, kind, base)
                if names is None:
                    break
                value = {"~": self.within(LOOSE, Writer.put, PLAIN[base](x), depth)}
                return self.special(x, kind, value, names) if names else value
        return self.remote(x)

    def behaviour(self, x, kind, base):
        """What a subclass has that its base has not, by name; `None` where no list of names can say it."""
        names = self.behaviours.get(kind)
        if names is None:
            names = set()
            for cls in _mro(kind):
                if cls not in base.__mro__:
                    names.update(n for n, v in _members(cls).items() if type(n) is str and not _inert(n, v))
            self.behaviours[kind] = names
        if "__getattribute__" in names or "__getattr__" in names:
            return None
        own = getattr(x, "__dict__", None)
        return sorted(names.union(n for n in own if type(n) is str) if type(own) is dict and own else names)

    def special(self, x, kind, value, names):
        """A value of a class that behaves unlike its base: the value, and whom to ask for the rest."""
        return {"~+": [value, kind.__name__, names, self.remote(x)]}


_mro = type.__dict__["__mro__"].__get__
_members = type.__dict__["__dict__"].__get__
_INERT = frozenset(
    "__module__ __doc__ __dict__ __weakref__ __slots__ __annotations__ __annotate__ __annotate_func__ __qualname__ "
    "__annotations_cache__ __firstlineno__ __static_attributes__ __orig_bases__ __parameters__ __match_args__ __init__ "
    "__new__ __init_subclass__ __classcell__ __classdictcell__ __class_getitem__ __eq__ __ne__ __hash__ "
    "__getnewargs__ __replace__ _fields _field_defaults _make _replace _asdict".split()
)


def _inert(name, value):
    """Whether a class's member changes nothing that a value's user could see, as all that `namedtuple` makes."""
    return name in _INERT or getattr(value, "__globals__", None) is _namedtuple.__globals__


_namedtuple = collections.namedtuple
PLAIN = {base: base for base in _EXACT} | {
    int: lambda x: int.__add__(x, 0),
    float: lambda x: float.__add__(x, 0.0) if x else float.__abs__(x),
    str: lambda x: str.__str__(x) if type(str.__str__(x)) is str else str.__add__(x, ""),
    list: lambda x: list(list.__iter__(x)),
    tuple: lambda x: tuple(tuple.__iter__(x)),
    dict: lambda x: {k: dict.__getitem__(x, k) for k in dict.__iter__(x)},
    set: lambda x: set(set.__iter__(x)),
    frozenset: lambda x: frozenset(frozenset.__iter__(x)),
    bytes: lambda x: bytes.__add__(x, b""),
}


_COPY = {
    collections.defaultdict: lambda x: collections.defaultdict(x.default_factory, x),
    collections.deque: lambda x: collections.deque(x, x.maxlen),
    array.array: lambda x: x[:],
}


def _mutable(tag, body):
    def write(w, x, depth):
        again = w.again(x)
        return again if again is not None else {tag: w.within(len(w.kept) - 1, body, x, depth)}

    return write


def _list(w, x, depth):
    again = w.again(x)
    return again if again is not None else w.within(len(w.kept) - 1, Writer.all, x, depth)


def _loosely(tag, body):
    return lambda w, x, depth: {tag: w.within(LOOSE, body, x, depth)}


def _time(name, *fields):
    def write(w, x, depth):
        if fields[-1] == "microsecond" and x.tzinfo is not None:
            if name == "datetime" and type(x.tzinfo) is datetime.timezone:
                return {"dz": x.isoformat()}
            return w.remote(x)
        return {"dt": [name] + [getattr(x, field) for field in fields]}

    return write


_WRITE = {
    list: _list,
    tuple: _loosely("t", Writer.all),
    dict: _mutable("d", lambda w, x, d: w.pairs(x.items(), d)),
    set: _mutable("S", lambda w, x, d: w.all(x, d)),
    frozenset: lambda w, x, d: {"F": w.all(x, d)},
    bytes: lambda w, x, d: {"b": x.hex()},
    bytearray: _mutable("B", lambda w, x, d: x.hex()),
    complex: lambda w, x, d: {"c": [x.real, x.imag]},
    range: lambda w, x, d: {"g": [w.put(y) for y in (x.start, x.stop, x.step)]},
    _KEYS: _loosely("vk", Writer.all),
    _VALUES: _loosely("vv", Writer.all),
    _ITEMS: _loosely("vi", Writer.pairs),
    collections.deque: _mutable("q", lambda w, x, d: [x.maxlen, w.all(x, d)]),
    collections.OrderedDict: _mutable("od", lambda w, x, d: w.pairs(x.items(), d)),
    collections.Counter: _mutable("ct", lambda w, x, d: w.pairs(x.items(), d)),
    collections.defaultdict: _mutable("dd", lambda w, x, d: [w.put(x.default_factory, d), w.pairs(x.items(), d)]),
    fractions.Fraction: lambda w, x, d: {"fr": [w.put(x.numerator), w.put(x.denominator)]},
    decimal.Decimal: lambda w, x, d: {"de": str(x)},
    datetime.date: lambda w, x, d: {"dt": ["date", x.year, x.month, x.day]},
    datetime.datetime: _time("datetime", "year", "month", "day", "hour", "minute", "second", "microsecond"),
    datetime.time: _time("time", "hour", "minute", "second", "microsecond"),
    datetime.timedelta: lambda w, x, d: {"dt": ["timedelta", x.days, x.seconds, x.microseconds]},
    array.array: _mutable(
        "ar", lambda w, x, d: [x.typecode, x.tounicode() if x.typecode in "uw" else x.tolist()]
    ),
    pathlib.PosixPath: lambda w, x, d: {"pp": [True, str(x)]},
    pathlib.PurePosixPath: lambda w, x, d: {"pp": [False, str(x)]},
}


class Reader:
    """Reads the values of one message.

    `remote(v)` resolves a handle, `both` the number of a container that both sides hold; `extra` has one side's own
    tags; `refuse(why)`, if any, is called for what this side does not take.
    """

    __slots__ = ("remote", "extra", "both", "refuse", "got", "more", "loose", "copies", "made")

    def __init__(self, remote, extra, both, refuse):
        self.remote = remote
        self.extra = extra
        self.both = both
        self.refuse = refuse
        self.got = []  # decoded mutable containers, in the writer's numbering
        self.more = {}  # number -> how many places beyond the first hold it
        self.loose = set()  # containers in something that is not itself a numbered container
        self.copies = []  # values of subclasses, as their base
        self.made = {}  # classes made for this message

    def get(self, j):
        kind = type(j)
        if kind is list:
            made = []
            self.got.append(made)
            made.extend([self.get(x) for x in j])
            return made
        if kind is not dict:
            return j
        ((tag, v),) = j.items()
        read = _READ.get(tag)
        if read is not None:
            return read(self, v)
        if tag == "r":
            return self.remote(v)
        return self.extra[tag](self, v)

    def all(self, v):
        if type(v) is not list:
            raise ValueError("a list is missing")
        return [self.get(x) for x in v]

    def pairs(self, v):
        return [(self.get(a), self.get(b)) for a, b in v]

    def loosely(self, read, v):
        start = len(self.got)
        made = read(v)
        if len(self.got) > start:
            self.loose.update(range(start, len(self.got)))
        return made


def _again(r, v):
    made = r.got[_whole(v) if v >= 0 else len(r.got)]
    r.more[v] = r.more.get(v, 0) + 1
    return made


def _lossy(r, v):
    made = r.loosely(r.get, v)
    r.copies.append(made)
    return made


def _builtin(r, v):
    if v in SINGLE:
        return SINGLE[v]
    if v in _CATCH_ALL and r.refuse is not None:
        r.refuse("the class %s" % v)
    return TYPES[v]


# Where a test has `except E` with an `E` of the program's, these would catch the test's own failure.
_CATCH_ALL = ("BaseException", "Exception", "AssertionError")


def _dict(r, v):
    made = {}
    r.got.append(made)
    for a, b in v:
        made[r.get(a)] = r.get(b)
    return made


def _set(r, v):
    made = set()
    r.got.append(made)
    made.update(r.all(v))
    return made


def _ordered(r, v):
    made = collections.OrderedDict()
    r.got.append(made)
    made.update(r.pairs(v))
    return made


def _counter(r, v):
    made = collections.Counter()
    r.got.append(made)
    for a, b in v:
        made[r.get(a)] = r.get(b)
    return made


def _bytearray(r, v):
    made = bytearray.fromhex(v)
    r.got.append(made)
    return made


def _deque(r, v):
    made = collections.deque([], _whole(v[0], True))
    r.got.append(made)
    made.extend(r.all(v[1]))
    return made


def _whole(v, optional=False):
    if type(v) is not int and not (optional and v is None):
        raise ValueError("a whole number is missing")
    return v


def _text(v):
    if type(v) is not str:
        raise ValueError("a text is missing")
    return v


def _named(r, v):
    name, fields, values = v
    if len(fields) > 255 or len(values) != len(fields):
        raise ValueError("named tuple")
    key = (name, *fields)
    made = r.made.get(key)
    if made is None:
        made = collections.namedtuple(_text(name), [_text(field) for field in fields], rename=True)
        r.made[key] = made
    return made(*r.loosely(r.all, values))


def _default(r, v):
    made = collections.defaultdict()
    r.got.append(made)
    factory = r.get(v[0])
    if factory is not None and not callable(factory):
        raise ValueError("defaultdict")
    made.default_factory = factory
    made.update(r.pairs(v[1]))
    return made


def _date(r, v):
    kind, fields = _TIMES[v[0]]
    return kind(*[_whole(x) for x in v[1 : fields + 1]])


def _array(r, v):
    code, items = v
    if type(items) is not (str if code in ("u", "w") else list):
        raise ValueError("array")
    made = array.array(code, items)
    r.got.append(made)
    return made


_READ = {
    "&": _again,
    "k": lambda r, v: r.both[_whole(v)],
    "~": _lossy,
    "t": lambda r, v: tuple(r.loosely(r.all, v)),
    "d": _dict,
    "S": _set,
    "F": lambda r, v: frozenset(r.all(v)),
    "s": lambda r, v: "".join([chr(_whole(x)) for x in v]),
    "h": lambda r, v: int(_text(v), 16),
    "b": lambda r, v: bytes.fromhex(v),
    "B": _bytearray,
    "c": lambda r, v: complex(float(v[0]), float(v[1])),
    "g": lambda r, v: range(*[_whole(x) for x in r.all(v)]),
    "vk": lambda r, v: dict.fromkeys(r.loosely(r.all, v)).keys(),
    "vv": lambda r, v: dict(enumerate(r.loosely(r.all, v))).values(),
    "vi": lambda r, v: dict(r.loosely(r.pairs, v)).items(),
    "q": _deque,
    "od": _ordered,
    "ct": _counter,
    "dd": _default,
    "fr": lambda r, v: fractions.Fraction(_whole(r.get(v[0])), _whole(r.get(v[1]))),
    "de": lambda r, v: decimal.Decimal(_text(v)),
    "dt": _date,
    "dz": lambda r, v: datetime.datetime.fromisoformat(_text(v)),
    "bt": _builtin,
    "nt": _named,
    "ar": _array,
    "pp": lambda r, v: (pathlib.PosixPath if v[0] is True else pathlib.PurePosixPath)(_text(v[1])),
}
