"""The source ``tasks``: asynchronous components that use the built-ins of tasks, streams and futures in any order.

Their functions are straight-line code of random built-ins on kept handles, mostly of the right kind, so that many calls
reach the state that they are about. Some components consist of two instances, one of which calls the other.

Source: the component model's Explainer.md, "Canonical Built-ins", and CanonicalABI.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from aegis.attack.cases import ENCODINGS, REALLOCS
from aegis.attack.inputs import Artifacts, AttackInput, Make, seeded_random
from aegis.attack.wat import TypeDefinitions
from aegis.engine.compile.artifact import text_to_binary
from aegis.wit.types import Future, List, Option, Result, Stream, Tuple, WitType, show

__all__ = ["task_component", "tasks"]

_ELEMENTS: tuple[WitType | None, ...] = (
    None, "u8", "u8", "bool", "u16", "s32", "u64", "f32", "string", List("u8"), List("string"), Option("u32"),
    Tuple(("u8", "string")), Result("string", "u64"), Tuple(("u64", Option("string"))), Stream("u8"), Future("string"),
    Tuple(("u8", Stream("u16"))),
)  # fmt: skip
_SLOTS = 12
"""Global variables of the core module, which keep handles."""
_MAX_CALLBACK_CALLS = 8
"""Most calls of one callback, after which its task exits."""
_ODD = (0, 1, 2, 3, 7, 15, 16, 255, 256, 1023, 1025, 65528, 65535, 65536, 1 << 28, 1 << 30, (1 << 31) - 1, 1 << 31)
_ADDRESSES = (64, 128, 1024, 4096)
_LENGTHS = (0, 1, 2, 3, 8, 64)
_ODD_LENGTHS = (4096, (1 << 28) - 1, 1 << 28, (1 << 32) - 1)
_WRONG_RETURNS, _TWO_RETURNS, _START_FUNCTIONS = 0.04, 0.04, 0.08
"""Shares of functions that return the value of another one, that return twice, and of modules that start with code."""
_RARE = ("task-cancel", "dec", "inc", "set-drop")
"""Built-ins that mostly trap, or make a task wait for ever."""
_CODES = (0, 1)
_ODD_CODES = (3, 5, 15, 18, 1 << 31)
"""Results of callbacks that name no waitable set: exit and yield, and others that are no codes."""


class _BuiltIn(NamedTuple):
    """A built-in: its definition, what it takes and gives.

    Each letter of ``takes`` is an argument: a handle (``r``, ``w``: ends of a stream, ``R``, ``W``: of a future, ``s``:
    a waitable set, ``t``: a subtask, ``e``: any of these waitables), ``p``: an address, ``n``: a number of elements,
    ``x``: any number. ``gives`` are the handles in its result: two letters for the two ends in an i64, ``x`` for a
    number, and nothing for no result.
    """

    name: str
    text: str
    takes: str = ""
    gives: str = ""


def _builtins(options: str) -> list[_BuiltIn]:
    found = [
        _BuiltIn("s-new", "stream.new $S", gives="rw"),
        _BuiltIn("f-new", "future.new $F", gives="RW"),
        _BuiltIn("set-new", "waitable-set.new", gives="s"),
        _BuiltIn("set-drop", "waitable-set.drop", "s"),
        _BuiltIn("set-wait", 'waitable-set.wait (memory (core memory $mem "memory"))', "sp", "x"),
        _BuiltIn("set-poll", 'waitable-set.poll (memory (core memory $mem "memory"))', "sp", "x"),
        _BuiltIn("join", "waitable.join", "es"),
        _BuiltIn("join-none", "waitable.join", "ex"),
        _BuiltIn("subtask-drop", "subtask.drop", "t"),
        _BuiltIn("context-get", "context.get i32 0", gives="x"),
        _BuiltIn("context-set", "context.set i32 0", "x"),
        _BuiltIn("task-cancel", "task.cancel"),
        _BuiltIn("inc", "backpressure.inc"),
        _BuiltIn("dec", "backpressure.dec"),
        _BuiltIn("yield", "thread.yield", gives="x"),
        _BuiltIn("s-drop-read", "stream.drop-readable $S", "r"),
        _BuiltIn("s-drop-write", "stream.drop-writable $S", "w"),
        _BuiltIn("f-drop-read", "future.drop-readable $F", "R"),
        _BuiltIn("f-drop-write", "future.drop-writable $F", "W"),
    ]
    for mark in ("", " async"):
        found += [
            _BuiltIn(f"s-read{mark[1:]}", f"stream.read $S{mark} {options}", "rpn", "x"),
            _BuiltIn(f"s-write{mark[1:]}", f"stream.write $S{mark} {options}", "wpn", "x"),
            _BuiltIn(f"f-read{mark[1:]}", f"future.read $F{mark} {options}", "Rp", "x"),
            _BuiltIn(f"f-write{mark[1:]}", f"future.write $F{mark} {options}", "Wp", "x"),
            _BuiltIn(f"s-cancel-read{mark[1:]}", f"stream.cancel-read $S{mark}", "r", "x"),
            _BuiltIn(f"s-cancel-write{mark[1:]}", f"stream.cancel-write $S{mark}", "w", "x"),
            _BuiltIn(f"f-cancel-read{mark[1:]}", f"future.cancel-read $F{mark}", "R", "x"),
            _BuiltIn(f"f-cancel-write{mark[1:]}", f"future.cancel-write $F{mark}", "W", "x"),
            _BuiltIn(f"subtask-cancel{mark[1:]}", f"subtask.cancel{mark}", "t", "x"),
        ]
    return found


class _TaskFunction(NamedTuple):
    """The type of an import and of the export of the same name: parameters and result as component text and letters."""

    params: str
    takes: str
    result: str
    gives: str


_FUNCTIONS = {
    "give": _TaskFunction('(param "n" u32)', "x", "(result $S)", "r"),
    "take": _TaskFunction('(param "s" $S) (param "f" $F)', "rR", "(result u32)", "x"),
    "later": _TaskFunction("", "", "(result $F)", "R"),
    "run": _TaskFunction("", "", "", ""),
}
"""Every component exports these functions, and imports all but ``run``."""


def tasks(seed: int, artifacts: Artifacts) -> Make:
    """Return the source of asynchronous components that use built-ins in any order."""

    def make(number: int) -> AttackInput:
        rng = seeded_random(seed, "tasks", number)
        of, pair = rng.choice(_ELEMENTS), rng.random() < 0.3
        text = task_component(rng, of, pair=pair)
        label = f"tasks: elements {'none' if of is None else show(of)}{', two instances' if pair else ''}"
        return AttackInput(source="tasks", number=number, data=text_to_binary(text), label=label)

    return make


def task_component(rng: Random, of: WitType | None, *, pair: bool) -> str:
    """Return the text of a component whose streams and futures have elements of the type ``of``.

    ``pair``: of two such components, the second of which calls the first.
    """
    if not pair:
        return "\n".join(("(component", *_component(rng, of), ")"))
    types = "\n".join(_types(of))
    inner = ("\n".join((f"(component ${name}", *_component(rng, of), ")")) for name in ("one", "two"))
    imported = [name for name in _FUNCTIONS if name != "run"]
    given = " ".join(f'(with "{name}" (func ${name}))' for name in imported)
    linked = " ".join(f'(with "{name}" (func $a "{name}"))' for name in imported)
    exports = "\n".join(f'(export "{name}" (func $b "{name}"))' for name in _FUNCTIONS)
    return "\n".join(
        ("(component", types, *_imports(), *inner, f"(instance $a (instantiate $one {given}))",
         f"(instance $b (instantiate $two {linked}))", exports, ")")
    )  # fmt: skip


def _types(of: WitType | None) -> Iterator[str]:
    types = TypeDefinitions("t")
    element = "" if of is None else f" {types.of(of)}"
    yield from types.lines
    yield f"(type $S (stream{element}))"
    yield f"(type $F (future{element}))"


def _imports() -> Iterator[str]:
    for name, of in _FUNCTIONS.items():
        if name != "run":
            yield f'(import "{name}" (func ${name} async {of.params} {of.result}))'


def _component(rng: Random, of: WitType | None) -> Iterator[str]:
    """Yield the definitions of one component."""
    memory = f'(memory (core memory $mem "memory")) string-encoding={rng.choice(ENCODINGS)}'
    options = f'{memory} (realloc (core func $mem "realloc"))'
    builtins = _builtins(options)
    lowered: dict[str, _BuiltIn] = {}
    yield from (*_types(of), *_imports(), *_memory(rng))
    for name, function in _FUNCTIONS.items():
        if name != "run":
            for mark in ("", " async"):
                made = _lowered(f"{name}{mark[1:]}", function, is_async=bool(mark))
                lowered[made.name] = made
                yield f"(core func ${made.name} (canon lower (func ${name}){mark} {options}))"
        yield f"(core func $return-{name} (canon task.return {function.result} {memory}))"
    for one in builtins:
        yield f"(core func ${one.name} (canon {one.text}))"
    code = _TaskCode(rng, [*builtins, *lowered.values()])
    returns = {name: _BuiltIn(f"return-{name}", "", of.gives) for name, of in _FUNCTIONS.items()}
    yield '(core module $code (import "m" "memory" (memory 0))'
    for one in (*code.calls, *returns.values()):
        yield f'(import "h" "{one.name}" (func ${one.name} {_core(one)}))'
    yield from (f"(global $k{n} (mut i32) (i32.const {rng.choice(_ODD)}))" for n in range(_SLOTS))
    yield "(global $left (mut i32) (i32.const 0))"
    styles = {}
    for name, function in _FUNCTIONS.items():
        styles[name] = rng.choices(("callback", "stackful", "sync"), (6, 1, 1))[0]
        returned = rng.choice(list(returns.values())) if rng.random() < _WRONG_RETURNS else returns[name]
        yield from code.function(name, function, returned, styles[name])
    if rng.random() < _START_FUNCTIONS:
        yield from code.start()
    yield ")"
    given = " ".join(f'(export "{one.name}" (func ${one.name}))' for one in (*code.calls, *returns.values()))
    yield f'(core instance $code (instantiate $code (with "m" (instance $mem)) (with "h" (instance {given}))))'
    for name, function in _FUNCTIONS.items():
        callback = f'(callback (core func $code "{name}-callback"))' if styles[name] == "callback" else ""
        how = "" if styles[name] == "sync" else "async"
        yield (
            f'(func (export "{name}") async {function.params} {function.result} '
            f'(canon lift (core func $code "{name}") {how} {options} {callback}))'
        )


def _memory(rng: Random) -> Iterator[str]:
    """Yield a memory of random words, and its allocator, which is mostly a good one."""
    realloc = REALLOCS["bump" if rng.random() < 0.8 else rng.choice(list(REALLOCS))]
    data = "".join(f"\\{byte:02x}" for _ in range(32) for byte in (rng.choice((0, 1, 2, 8, 64, 255)), 0, 0, 0))
    yield f"""(core module $memory
  (memory (export "memory") 2 8) (global $at (mut i32) (i32.const 8192))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local i32)
    (local.set 4 (global.get $at))
    (global.set $at (i32.add (global.get $at) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -8))))
    {realloc})
  (data (i32.const 0) "{data}"))"""
    yield "(core instance $mem (instantiate $memory))"


def _lowered(name: str, of: _TaskFunction, *, is_async: bool) -> _BuiltIn:
    """Return an import as core code sees it: the result of an asynchronous call is at an address."""
    if is_async:
        return _BuiltIn(name, "", of.takes + ("p" if of.gives else ""), "t")
    return _BuiltIn(name, "", of.takes, of.gives)


def _core(one: _BuiltIn) -> str:
    result = "" if not one.gives else f"(result {'i64' if len(one.gives) == 2 else 'i32'})"
    return f"(param {' '.join('i32' for _ in one.takes)}) {result}" if one.takes else result


class _TaskCode:
    """Writes the functions of a core module. It remembers which global probably has which handle."""

    def __init__(self, rng: Random, calls: list[_BuiltIn]) -> None:
        self.rng, self.calls = rng, calls
        self._kinds = [""] * _SLOTS

    def function(self, name: str, of: _TaskFunction, returned: _BuiltIn, style: str) -> Iterator[str]:
        """Yield a function and, if it has one, its callback."""
        self._kinds = [""] * _SLOTS  # each function may be the first that is called
        params = " ".join(f"(param $p{n} i32)" for n in range(len(of.takes)))
        kept = [self._set(letter, f"(local.get $p{n})") for n, letter in enumerate(of.takes) if letter != "x"]
        done = self.rng.random() < 0.6
        body = [*kept, *self._calls(8), *([self._call(returned)] if done and style != "sync" else [])]
        if self.rng.random() < _TWO_RETURNS:
            body.append(self._call(returned))
        if style == "stackful":
            yield f'(func (export "{name}") {params} (local $pair i64) {" ".join(body)})'
            return
        if style == "sync":
            result, value = ("(result i32)", self._argument(of.gives, takes=True)) if of.gives else ("", "")
            yield f'(func (export "{name}") {params} {result} (local $pair i64) {" ".join(body)} {value})'
            return
        body.append(f"(global.set $left (i32.const {self.rng.randrange(_MAX_CALLBACK_CALLS)}))")
        yield f'(func (export "{name}") {params} (result i32) (local $pair i64) {" ".join(body)} {self._code()})'
        later = [*self._calls(4), *([self._call(returned)] if not done and self.rng.random() < 0.8 else [])]
        yield f"""(func (export "{name}-callback") (param i32 i32 i32) (result i32) (local $pair i64)
  {" ".join(later)}
  (if (i32.eqz (global.get $left)) (then (return (i32.const 0))))
  (global.set $left (i32.sub (global.get $left) (i32.const 1)))
  {self._code()})"""

    def start(self) -> Iterator[str]:
        """Yield a start function, whose code belongs to no task."""
        self._kinds = [""] * _SLOTS
        yield f"(func $start (local $pair i64) {' '.join(self._calls(4))}) (start $start)"

    def _calls(self, most: int) -> Iterator[str]:
        for _ in range(self.rng.randrange(most + 1)):
            ready = [one for one in self.calls if all(self._slots(letter) for letter in one.takes)]
            among = ready if self.rng.random() < 0.95 else self.calls
            rare = [0.15 if one.name in _RARE or "cancel" in one.name else 1 for one in among]
            yield self._call(self.rng.choices(among, rare)[0])

    def _slots(self, letter: str) -> list[int]:
        """Return the globals that probably have what ``letter`` stands for; all for a number."""
        if letter in "pnx":
            return [0]
        wanted = "rwRWt" if letter == "e" else letter
        return [n for n, kind in enumerate(self._kinds) if kind and kind in wanted]

    def _call(self, one: _BuiltIn) -> str:
        takes = "drop" in one.name or one.text == ""
        call = f"(call ${one.name} {' '.join(self._argument(letter, takes=takes) for letter in one.takes)})"
        if len(one.gives) == 2:
            low = self._set(one.gives[0], "(i32.wrap_i64 (local.get $pair))")
            high = self._set(one.gives[1], "(i32.wrap_i64 (i64.shr_u (local.get $pair) (i64.const 32)))")
            return f"(local.set $pair {call}) {low} {high}"
        if one.gives == "t":  # the number of a subtask follows its state, in four bits
            return self._set("t", f"(i32.shr_u {call} (i32.const 4))")
        if one.gives in ("", "x"):
            return f"(drop {call})" if one.gives else call
        return self._set(one.gives, call)

    def _set(self, kind: str, value: str) -> str:
        place = self.rng.randrange(_SLOTS)
        self._kinds[place] = kind
        return f"(global.set $k{place} {value})"

    def _argument(self, letter: str, *, takes: bool) -> str:
        """Return code for an argument; ``takes``: the callee takes the handle away."""
        rng = self.rng
        if letter == "p":
            return f"(i32.const {rng.choice(_ADDRESSES if rng.random() < 0.93 else _ODD)})"
        if letter == "n":
            return f"(i32.const {rng.choice(_LENGTHS if rng.random() < 0.93 else _ODD_LENGTHS)})"
        if letter == "x" or rng.random() < 0.02:
            return f"(i32.const {rng.choice(_ODD)})"
        slots = self._slots(letter)
        place = rng.choice(slots) if slots and rng.random() < 0.98 else rng.randrange(_SLOTS)
        if takes:
            self._kinds[place] = ""
        return f"(global.get $k{place})"

    def _code(self) -> str:
        """Return the result of a function with a callback: mostly to wait for a set that exists."""
        sets = self._slots("s")
        if not sets or self.rng.random() < 0.4:
            return f"(i32.const {self.rng.choice(_CODES if self.rng.random() < 0.93 else _ODD_CODES)})"
        return f"(i32.or (i32.const 2) (i32.shl (global.get $k{self.rng.choice(sets)}) (i32.const 4)))"
