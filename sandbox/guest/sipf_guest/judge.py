"""The judge: runs setup and tests, and says how each of them ended. Only what stands here counts."""

from sipf_guest import own

__builtins__ = own.BUILTINS

import ast
import builtins
import decimal
import gc
import random
import sys

from sipf_guest import reads, remote
from sipf_guest.program import SEED, describe

# Objects of these modules may be bound by a name that the program imported; they are the judge's own.
_OPEN = set(
    "collections typing datetime decimal fractions math cmath itertools functools heapq bisect re string random copy "
    "operator statistics enum dataclasses _heapq _bisect _functools _collections _operator _random _statistics".split()
)
_MODULES = _OPEN | {"sys", "json", "time"}
_PLAIN = (int, float, str, bool, list, tuple, dict, set)
_seed = random.seed
_builtins = vars(builtins)
_recursion = sys.getrecursionlimit()
_digits = sys.get_int_max_str_digits()
_context = decimal.getcontext().copy()
BY_VALUE = "!by_value"


def _compiled(source, name):
    try:
        if name == "test.py":
            line = source.strip()
            if "\n" not in line:
                source = line
            if "\n" in line or ";" in line or line[:7] != "assert ":
                source = _asserted(ast.parse(source, name))
        return compile(source, name, "exec", dont_inherit=True), None
    except BaseException as error:
        return None, error


def _asserted(tree):
    """A test that ends in an expression means that it holds; as a statement it could not fail."""
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        value = last.value
        if not isinstance(value, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
            holds = ast.copy_location(ast.Name("__holds__", ast.Load()), value)
            value = ast.copy_location(ast.Call(holds, [value], []), value)
        tree.body[-1] = ast.copy_location(ast.Assert(value, None), last)
    return tree


def _holds(value):
    """What a call gives that is made for its own assertions is `None`."""
    return value is None or bool(value)


class _Check:
    def __init__(self, setup, tests, names):
        self.names = [name for name in names if name != BY_VALUE]
        remote.session = remote.Session(BY_VALUE in names)
        self.space = {"__name__": "test", "__holds__": _holds}
        self.sources = tests
        self.setup = _compiled(setup, "setup.py") if setup else None
        self.tests = [_compiled(test, "test.py") for test in tests]
        used = self.used = reads.Names()
        for code, _ in self.tests + ([self.setup] if setup else []):
            if code is not None:
                used.add(code)
        # Builtins and modules are the judge's own, or a program could define abs, set or math and so decide
        # an assertion. A name of the program's that was not declared is taken only without declarations, or
        # when it is a public object of the standard library by the same name.
        declared = used.writes.union(self.names)
        self.inferred = [n for n in sorted(used.reads - declared) if n not in _builtins and n[:2] != "__"]
        for name in self.inferred:
            if name in sys.modules and name != "solution":
                self.space[name] = sys.modules[name]
        self.soiled = used.may_alter(self.space)

    def bind(self, declared, inferred, must):
        if not declared and not inferred:
            return

        def take(reader, found):
            if type(found) is not dict:
                raise ValueError("names")
            return (
                {name: reader.get(found[name]) for name in declared if name in found},
                {name: self.infer(reader, name, found[name]) for name in inferred if name in found},
            )

        found, known = remote.ask(["names", declared, inferred, not self.names], take)
        missing = [name for name in declared if name not in found]
        if any(name in _builtins for name in missing):  # or the judge's own `sorted` would stand in for the program's
            self.space["__builtins__"] = {k: v for k, v in _builtins.items() if k not in missing}
        for name in declared:
            if name in found:
                self.space[name] = found[name]
            elif must:
                self.space.pop(name, None)
        self.space.update(known)

    def infer(self, reader, name, j):
        tag, v = next(iter(j.items())) if type(j) is dict and len(j) == 1 else (None, None)
        module = sys.modules.get(name) if type(self.space.get(name)) is type(sys) else None
        if tag == "std" and type(v) is list and v[1] == name and v[0] in _OPEN:
            value = remote.library(v)
            self.soiled |= not reads.lasts(value)
            return value
        if module is not None:  # whatever the program calls so
            if tag not in ("std", "mod") and not self.names:
                reader.get(j)
            return module
        if tag == "mod":
            if not (type(v) is str and v in _MODULES and v in sys.modules):
                remote.unsupported("the test uses %s, which the program bound to another module" % name)
            value = sys.modules[v]
            self.soiled |= self.used.may_alter({name: value})
            return value
        if tag == "std":
            remote.unsupported("the test uses %s, which the program bound to another name's object" % name)
        if self.names:
            raise ValueError("a name that was not asked for")
        return reader.get(j)

    def run(self):
        """How setup ended, and each of the tests when it passed."""
        session = remote.session
        try:
            self.bind(self.names, self.inferred, False)
            if self.setup is not None:
                code, error = self.setup
                if error is not None:
                    return ["syntax_error", "the setup does not compile: " + describe(error)], []
                exec(code, self.space)
                self.bind(self.names, [], True)
            if session.unsupported:
                return ["unsupported", "the setup swallowed an operation that is not carried"], []
        except BaseException as error:
            return ["dead", ""] if session.dead else self.ended(error, "setup.py", ""), []
        if session.dead:  # sticky: a setup cannot swallow it
            return ["dead", ""], []
        return ["passed", ""], self.judged()

    def judged(self):
        session = remote.session
        functions = session.remotes
        every = self.names + (self.inferred if not self.names else [])
        plain = [n for n in every if type(self.space.get(n)) in _PLAIN and n not in self.used.writes]
        out = []
        for (code, error), source in zip(self.tests, self.sources):
            refused = session.unsupported
            try:
                if error is not None:
                    out.append(["syntax_error", "the test does not compile: " + describe(error)])
                    continue
                if plain:  # a number that the program's functions change is fetched again for every test
                    self.bind([n for n in plain if n in self.names], [n for n in plain if n not in self.names], False)
                exec(code, self.space)
                if session.unsupported > refused:
                    out.append(["unsupported", "the test swallowed an operation that is not carried"])
                else:
                    out.append(["passed", ""])
            except BaseException as error:
                out.append(self.ended(error, "test.py", source))
            if session.dead:  # sticky: a test cannot swallow it
                out[-1] = ["dead", ""]
                break
        session.remotes -= functions
        return out

    def ended(self, error, where, source):
        kind = type(error)
        remote.session.quiet = True
        try:
            if kind is remote.RemoteExit:
                return ["exit", "in the program: " + str(error)]
            if kind is remote.Unsupported:
                return ["unsupported", str(error)]
            if kind is remote.Tampering:
                return ["tampering", str(error)]
            told = getattr(error, "_told", None)
            if type(told) is str:
                return [_class_of_told(kind), "in the program: " + told]
            text = describe(error, where)
            if kind is AssertionError and not error.args:
                text = "AssertionError: " + " ".join(_line(error, source).split())[:160]
            return [_class_of(error), text]
        finally:
            remote.session.quiet = False


def _line(error, source):
    """The line of the test that raised the error."""
    number, place = 1, error.__traceback__
    while place is not None:
        if place.tb_frame.f_code.co_filename == "test.py":
            number = place.tb_lineno
        place = place.tb_next
    lines = source.splitlines()
    return lines[number - 1] if 0 < number <= len(lines) else ""


def _class_of(error):
    if isinstance(error, AssertionError):
        return "failed_assertion"
    if isinstance(error, MemoryError):
        return "stack_overflow" if "Parser stack overflowed" in str(error) else "memory_limit"
    if isinstance(error, RecursionError):
        return "stack_overflow"
    if isinstance(error, Exception):
        return "runtime_error"
    return "exit" if isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)) else "runtime_error"


def _class_of_told(kind):
    if issubclass(kind, MemoryError):
        return "memory_limit"
    return "stack_overflow" if issubclass(kind, RecursionError) else "runtime_error"


def _as_before():
    """Undoes what an earlier test may have set: a verdict does not depend on the ones before it."""
    _seed(SEED)
    sys.setrecursionlimit(_recursion)
    sys.set_int_max_str_digits(_digits)
    decimal.setcontext(_context.copy())
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
    if _builtins != own.BUILTINS:
        _builtins.clear()
        _builtins.update(own.BUILTINS)


def check(setup, tests, names):
    """How setup and each test ended, the counters, and whether this judge may judge again: not when a test may have
    changed it."""
    _as_before()
    this = _Check(setup, tests, names)
    began, out = this.run()
    session = remote.session
    if session.tampered is not None:  # sticky: neither can swallow it
        ended = ["tampering", session.tampered]
        began, out = (began, [ended] * len(tests)) if out else (ended, [])
    counters = {k: getattr(session, k) for k in ("remotes", "delegated", "lossy", "unsupported")}
    report = {"setup": _clean(began), "tests": list(map(_clean, out)), "counters": counters, "soiled": this.soiled}
    session.over = True  # what setup and tests left behind is finalised now, and asks nobody
    this.space.clear()
    this = None
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
    gc.collect()
    remote.session = remote.Session(False)
    return own.dumps(report)


def _clean(ended):
    """A class and its line, without what is no text in UTF-8."""
    return [ended[0], ended[1].encode("utf-8", "backslashreplace").decode()]
