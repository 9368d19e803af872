"""Reading of pickled data without running any of it.

A pickle is a program for a small machine with a stack (PEP 3154, ``pickletools``). This machine
builds numbers, texts and plain containers only. It calls a few functions that its caller gives and
that build no other objects. A class or function of any other name is represented by a ``Foreign``,
which does nothing; neither is its module imported.
"""

from __future__ import annotations

import pickletools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

MAX_OPCODES = 600_000  # a checkpoint of 1,500 parameters with its optimiser has 200,000
MAX_TEXT_BYTES = 1 << 20  # a longer text or byte string is replaced by a ``Foreign``

# Modules whose functions have no place in a file of weights: a file that names one is an attack.
_RUNNING_MODULES = frozenset(
    """
    os posix nt subprocess sys shutil socket ctypes pty runpy importlib code commands pickle marshal
    webbrowser pdb timeit tempfile pip platform
    """.split()  # noqa: SIM905  a list of words reads better than a list of strings
)
_RUNNING_BUILTINS = frozenset(
    ("__import__", "apply", "breakpoint", "compile", "eval", "exec", "execfile", "input", "open")
)
_LITERALS = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    """.split()  # noqa: SIM905  see above


class PickleFaultError(ValueError):
    """Error for pickled data that is damaged, too long, or of an unknown form."""


class ForeignCallError(ValueError):
    """Error for pickled data that would run a program."""


class Reference(NamedTuple):
    """Name of a class or function."""

    name: str  # with its module


class Foreign(dict[Any, Any]):
    """Inert stand-in for an object of a class that is not read; holds the entries it was given."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name  # of the class or function, with its module
        self.state: object = None

    @property
    def entries(self) -> Mapping[Any, Any]:
        """Return the entries of a foreign mapping, or the attributes of a foreign object."""
        state = self.state
        return state if not self and isinstance(state, Mapping) else self


class Unfinished(ABC):
    """Result of a function whose content follows in a later opcode, such as an array's values."""

    def __init__(self) -> None:
        self.places: list[int] = []  # in the memo

    @abstractmethod
    def finish(self, state: object) -> object:
        """Return the object with its content; see the subclasses for errors."""


class PickleMachine:
    """Machine that runs the opcodes of one pickle.

    Args:
        stream: the file, at the first opcode; afterwards behind the last one. Its ``read`` must not
            allocate more than the file holds, as of ``io.BytesIO`` and ``mmap.mmap``.
        functions: functions to call, by full name; each takes the tuple of arguments.
        constants: values of further full names.
        resolve: returns the object of a persistent id.
        max_opcodes: limit of the steps.
    """

    def __init__(
        self,
        stream: IO[bytes],
        functions: Mapping[str, Callable[[tuple[Any, ...]], object]],
        *,
        constants: Mapping[str, object],
        resolve: Callable[[object], object],
        max_opcodes: int = MAX_OPCODES,
    ) -> None:
        self.foreign: dict[str, None] = {}  # names that were met, in order
        self._stream = stream
        self._functions = functions
        self._constants = constants
        self._resolve = resolve
        self._max_opcodes = max_opcodes
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # stacks below the marks
        self._memo: dict[int, Any] = {}
        self._work = 0

    def run(self) -> object:
        """Run the pickle and return its object.

        Raises:
            PickleFaultError: the pickle is damaged, too long or of an unknown form.
            ForeignCallError: the pickle names a function that runs programs.
        """
        try:
            return self._run()
        except (PickleFaultError, ForeignCallError):
            raise
        except (ValueError, TypeError, LookupError, OverflowError, AttributeError) as error:
            reason = str(error) or type(error).__name__
            raise PickleFaultError(reason) from None

    def _run(self) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of escapes in damaged texts
            for opcode, argument, _ in pickletools.genops(self._stream):
                self._spend(1)
                if opcode.name == "STOP":
                    return self._stack.pop()
                handler = _HANDLERS.get(opcode.name)
                if handler is None:
                    raise PickleFaultError(f"opcode {opcode.name} is not known")
                handler(self, argument)
        raise PickleFaultError("its end is missing")

    def call(self, function: object, arguments: object) -> object:
        """Return the result of a known function, or a ``Foreign`` for any other one."""
        if not isinstance(function, Reference):
            return Foreign(getattr(function, "name", "an object"))
        known = self._functions.get(function.name)
        if known is None:
            return Foreign(function.name)
        if not isinstance(arguments, tuple):
            raise PickleFaultError(f"{function.name} has no arguments")
        self._spend(sum(len(item) for item in arguments if isinstance(item, (list, dict, tuple))))
        return known(arguments)

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > self._max_opcodes:
            raise PickleFaultError(f"it takes more than {self._max_opcodes:,} steps")

    def _push_literal(self, value: object) -> None:
        is_long = isinstance(value, (str, bytes, bytearray)) and len(value) > MAX_TEXT_BYTES
        self._stack.append(Foreign("a long text") if is_long else value)

    def _pop_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._outer.pop()
        return items

    def _mark(self, _: object) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _pop(self, _: object) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _push_tuple(self, count: int) -> None:
        items = self._stack[len(self._stack) - count :]
        if len(items) != count:
            raise PickleFaultError("the stack is too short")
        del self._stack[len(self._stack) - count :]
        self._stack.append(tuple(items))

    def _push_from_mark(self, make: Callable[[list[Any]], object]) -> None:
        items = self._pop_mark()
        self._stack.append(make(items))

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Foreign):
            raise PickleFaultError("an item is added to no list")

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise PickleFaultError("an entry is added to no dictionary")
        target.update(_entries(items))

    def _find(self, name: str) -> None:
        if name in self._constants:
            self._stack.append(self._constants[name])
            return
        if name not in self._functions:
            _refuse_programs(name)
            self.foreign.setdefault(name)
        self._stack.append(Reference(name))

    def _find_on_stack(self, _: object) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleFaultError("the name of a class is no text")
        self._find(f"{module}.{name}")

    def _reduce(self, _: object) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self.call(function, arguments))

    def _new_with_keywords(self, _: object) -> None:
        self._stack.pop()
        self._reduce(None)

    def _instance(self, name: str) -> None:
        arguments = tuple(self._pop_mark())
        self._find(name.replace(" ", ".", 1))
        self._stack.append(self.call(self._stack.pop(), arguments))

    def _object(self, _: object) -> None:
        function, *arguments = self._pop_mark()
        self._stack.append(self.call(function, tuple(arguments)))

    def _build(self, _: object) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Foreign):
            target.state = state[0] if isinstance(state, tuple) and state else state
        elif isinstance(target, Unfinished):
            self._stack[-1] = finished = target.finish(state)
            for place in target.places:
                self._memo[place] = finished

    def _extend(self) -> None:
        self.foreign.setdefault("an extension")
        self._stack.append(Foreign("an extension"))

    def _persistent(self, key: object) -> None:
        self._stack.append(self._resolve(key))


def _entries(items: list[Any]) -> dict[Any, Any]:
    """Return a dictionary of alternating keys and values; entries of unusual keys are left out."""
    if len(items) % 2:
        raise PickleFaultError("a dictionary has a key without a value")
    pairs = zip(items[::2], items[1::2], strict=True)
    return {key: value for key, value in pairs if is_plain_key(key)}


def is_plain_key(key: object) -> bool:
    """Return True for a key that is hashed in constant time: no nested tuple, no container."""
    parts = key if isinstance(key, tuple) and not isinstance(key, Reference) else (key,)
    if len(parts) > 16:
        return False
    return all(isinstance(p, (str, int, float, bytes, type(None), Reference)) for p in parts)


def _refuse_programs(name: str) -> None:
    """Raise an error if a name is that of a function that runs programs or changes files."""
    module, _, function = name.partition(".")
    if module in ("builtins", "__builtin__"):
        refused = function in _RUNNING_BUILTINS
    else:
        is_class = function.rpartition(".")[2].lstrip("_")[:1].isupper()
        refused = module in _RUNNING_MODULES and not is_class
    if refused:
        raise ForeignCallError(name)


def _pair(name: str) -> str:
    return name.replace(" ", ".", 1)


def _put(machine: PickleMachine, index: int) -> None:
    machine._memo[index] = top = machine._stack[-1]
    if isinstance(top, Unfinished):
        top.places.append(index)


_HANDLERS: Mapping[str, Callable[[PickleMachine, Any], None]] = {
    **dict.fromkeys(_LITERALS, PickleMachine._push_literal),
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    "NONE": lambda machine, _: machine._stack.append(None),
    "NEWTRUE": lambda machine, _: machine._stack.append(True),
    "NEWFALSE": lambda machine, _: machine._stack.append(False),
    "EMPTY_LIST": lambda machine, _: machine._stack.append([]),
    "EMPTY_SET": lambda machine, _: machine._stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine._stack.append({}),
    "EMPTY_TUPLE": lambda machine, _: machine._stack.append(()),
    "MARK": PickleMachine._mark,
    "POP": PickleMachine._pop,
    "POP_MARK": lambda machine, _: machine._pop_mark().clear(),
    "DUP": lambda machine, _: machine._stack.append(machine._stack[-1]),
    "TUPLE": lambda machine, _: machine._push_from_mark(tuple),
    "FROZENSET": lambda machine, _: machine._push_from_mark(tuple),
    "LIST": lambda machine, _: machine._push_from_mark(list),
    "DICT": lambda machine, _: machine._push_from_mark(_entries),
    "TUPLE1": lambda machine, _: machine._push_tuple(1),
    "TUPLE2": lambda machine, _: machine._push_tuple(2),
    "TUPLE3": lambda machine, _: machine._push_tuple(3),
    "APPEND": lambda machine, _: machine._append([machine._stack.pop()]),
    "APPENDS": lambda machine, _: machine._append(machine._pop_mark()),
    "ADDITEMS": lambda machine, _: machine._append(machine._pop_mark()),
    "SETITEM": lambda machine, _: machine._set_items(
        [machine._stack.pop(), machine._stack.pop()][::-1]
    ),
    "SETITEMS": lambda machine, _: machine._set_items(machine._pop_mark()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    "MEMOIZE": lambda machine, _: _put(machine, len(machine._memo)),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"),
        lambda machine, index: machine._stack.append(machine._memo[index]),
    ),
    "GLOBAL": lambda machine, name: machine._find(_pair(name)),
    "STACK_GLOBAL": PickleMachine._find_on_stack,
    "REDUCE": PickleMachine._reduce,
    "NEWOBJ": PickleMachine._reduce,
    "NEWOBJ_EX": PickleMachine._new_with_keywords,
    "INST": PickleMachine._instance,
    "OBJ": PickleMachine._object,
    "BUILD": PickleMachine._build,
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), lambda machine, _: machine._extend()),
    "PERSID": PickleMachine._persistent,
    "BINPERSID": lambda machine, _: machine._persistent(machine._stack.pop()),
}
