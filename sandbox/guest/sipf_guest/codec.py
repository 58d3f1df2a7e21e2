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
    """Writes the values of one message. `remote(x)` says what stands for an object that stays where it is."""

    __slots__ = ("remote", "seen", "kept")

    def __init__(self, remote):
        self.remote = remote
        self.seen = {}  # id -> number of a mutable container already written: aliases and cycles
        self.kept = []

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

    def again(self, x):
        """The reference to a container already written, or `None` after giving it the next number."""
        number = self.seen.get(id(x))
        if number is not None:
            return {"&": number}
        self.seen[id(x)] = len(self.kept)
        self.kept.append(x)
        return None

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
                return {"nt": [kind.__name__, list(fields), self.all(tuple.__iter__(x), depth)]}
        # A subclass that compares like its base goes as the base value, counted as lossy.
        for base in _EXACT:
            if isinstance(x, base) and kind.__eq__ is base.__eq__ and kind.__ne__ is base.__ne__:
                return {"~": self.put(_PLAIN[base](x), depth)}
        return self.remote(x)


_PLAIN = {base: base for base in _EXACT} | {
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


def _mutable(tag, body):
    def write(w, x, depth):
        again = w.again(x)
        return again if again is not None else {tag: body(w, x, depth)}

    return write


def _list(w, x, depth):
    again = w.again(x)
    return again if again is not None else w.all(x, depth)


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
    tuple: lambda w, x, d: {"t": w.all(x, d)},
    dict: _mutable("d", lambda w, x, d: w.pairs(x.items(), d)),
    set: _mutable("S", lambda w, x, d: w.all(x, d)),
    frozenset: lambda w, x, d: {"F": w.all(x, d)},
    bytes: lambda w, x, d: {"b": x.hex()},
    bytearray: _mutable("B", lambda w, x, d: x.hex()),
    complex: lambda w, x, d: {"c": [x.real, x.imag]},
    range: lambda w, x, d: {"g": [w.put(y) for y in (x.start, x.stop, x.step)]},
    _KEYS: lambda w, x, d: {"vk": w.all(x, d)},
    _VALUES: lambda w, x, d: {"vv": w.all(x, d)},
    _ITEMS: lambda w, x, d: {"vi": w.pairs(x, d)},
    collections.deque: _mutable("q", lambda w, x, d: [x.maxlen, w.all(x, d)]),
    collections.OrderedDict: _mutable("od", lambda w, x, d: w.pairs(x.items(), d)),
    collections.Counter: _mutable("ct", lambda w, x, d: w.pairs(x.items(), d)),
    fractions.Fraction: lambda w, x, d: {"fr": [w.put(x.numerator), w.put(x.denominator)]},
    decimal.Decimal: lambda w, x, d: {"de": str(x)},
    datetime.date: lambda w, x, d: {"dt": ["date", x.year, x.month, x.day]},
    datetime.datetime: _time("datetime", "year", "month", "day", "hour", "minute", "second", "microsecond"),
    datetime.time: _time("time", "hour", "minute", "second", "microsecond"),
    datetime.timedelta: lambda w, x, d: {"dt": ["timedelta", x.days, x.seconds, x.microseconds]},
    array.array: lambda w, x, d: {"ar": [x.typecode, x.tounicode() if x.typecode in "uw" else x.tolist()]},
    pathlib.PosixPath: lambda w, x, d: {"pp": [True, str(x)]},
    pathlib.PurePosixPath: lambda w, x, d: {"pp": [False, str(x)]},
}


class Reader:
    """Reads the values of one message. `remote(v)` resolves a handle; `extra` holds one side's own tags."""

    __slots__ = ("remote", "extra", "got", "lossy")

    def __init__(self, remote, extra):
        self.remote = remote
        self.extra = extra
        self.got = []  # decoded mutable containers, in the writer's numbering
        self.lossy = 0

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
        if tag == "~":
            self.lossy += 1
            return self.get(v)
        return self.extra[tag](self, v)

    def all(self, v):
        if type(v) is not list:
            raise ValueError("a list is missing")
        return [self.get(x) for x in v]

    def pairs(self, v):
        return [(self.get(a), self.get(b)) for a, b in v]

    def fill(self, made, how, v):
        self.got.append(made)
        how(made, v)
        return made


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
    made = collections.namedtuple(_text(name), [_text(field) for field in fields], rename=True)
    return made(*r.all(values))


def _date(r, v):
    kind, fields = _TIMES[v[0]]
    return kind(*[_whole(x) for x in v[1 : fields + 1]])


def _array(r, v):
    code, items = v
    if type(items) is not (str if code in ("u", "w") else list):
        raise ValueError("array")
    return array.array(code, items)


_READ = {
    "&": lambda r, v: r.got[_whole(v)] if v >= 0 else r.got[len(r.got)],
    "t": lambda r, v: tuple(r.all(v)),
    "d": _dict,
    "S": _set,
    "F": lambda r, v: frozenset(r.all(v)),
    "s": lambda r, v: "".join([chr(_whole(x)) for x in v]),
    "h": lambda r, v: int(_text(v), 16),
    "b": lambda r, v: bytes.fromhex(v),
    "B": _bytearray,
    "c": lambda r, v: complex(float(v[0]), float(v[1])),
    "g": lambda r, v: range(*[_whole(x) for x in r.all(v)]),
    "vk": lambda r, v: dict.fromkeys(r.all(v)).keys(),
    "vv": lambda r, v: dict(enumerate(r.all(v))).values(),
    "vi": lambda r, v: dict(r.pairs(v)).items(),
    "q": _deque,
    "od": _ordered,
    "ct": _counter,
    "fr": lambda r, v: fractions.Fraction(_whole(r.get(v[0])), _whole(r.get(v[1]))),
    "de": lambda r, v: decimal.Decimal(_text(v)),
    "dt": _date,
    "dz": lambda r, v: datetime.datetime.fromisoformat(_text(v)),
    "bt": lambda r, v: SINGLE[v] if v in SINGLE else TYPES[v],
    "nt": _named,
    "ar": _array,
    "pp": lambda r, v: (pathlib.PosixPath if v[0] is True else pathlib.PurePosixPath)(_text(v[1])),
}
