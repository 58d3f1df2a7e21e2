"""Private copies, made before any program runs: the builtins, and JSON straight from the C accelerator."""

import builtins
import json.decoder
import json.encoder

BUILTINS = dict(vars(builtins))
__builtins__ = BUILTINS

_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _Scan:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _CONSTANTS.__getitem__
    memo = {}


def _refuse(value):
    raise TypeError("not JSON: " + type(value).__name__)


_scan = json.decoder.scanner.c_make_scanner(_Scan)
_pieces = json.encoder.c_make_encoder(
    None, _refuse, json.encoder.c_encode_basestring_ascii, None, ":", ",", False, False, True
)
_join = "".join


def dumps(value):
    """JSON text; only ASCII comes out."""
    return _join(_pieces(value, 0))


def loads(data):
    """The value of one JSON text without white space around it; `ValueError` for anything else."""
    text = str(data, "ascii")
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("no JSON value") from None
    if end != len(text):
        raise ValueError("text after the JSON value")
    return value


def loads_text(data):
    """The value of one JSON text in UTF-8, white space around it allowed."""
    text = str(data, "utf-8").strip()
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("no JSON value") from None
    if end != len(text):
        raise ValueError("text after the JSON value")
    return value
