"""A frequently called function is called through a fused module, which changes nothing but the time.

Oracle: the same function executed step by step, in a sandbox that does not fuse. ``test_differential.py``,
``test_lies.py``, ``test_rules.py`` and ``test_limits.py`` also run in both ways.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, CallError, DeadlineExceeded, GuestTrap, QuotaExceeded, Sandbox
from aegis.component.call_source import _CALLS_COUNTED
from aegis.component.conversion.layout import layout
from aegis.component.shims.fused_calls import Block, Piece, Shape, module_text, pieces
from aegis.wit.types import Borrow, Flags, List, Option, Record, Resource, Result, Tuple, Variant, WitType, show
from aegis.wit.values import Err, Ok
from tests.component.hot import fused_at_once, is_fused
from tests.echo import own_echo_component

TEXT = Record("r", (("a", "u32"), ("b", "string"), ("c", List("u8")), ("d", "f64")))
CASES = Variant("v", (("none", None), ("text", "string"), ("big", "u64"), ("words", List("u16"))))
SIZES = [0, 1, 2, 3, 4, 7, 8, 9, 12, 14, 15, 16, 17, 31, 32, 33, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 5000]


def runtime(**limits: Any) -> Aegis:
    return Aegis(cache=False, pooled=False, **{"fuel": None, "timeout": "60s", **limits})


RUNTIME = runtime()


def memory(sandbox: Sandbox) -> bytes:
    """Return all of a guest's memory."""
    state: Any = sandbox._run.store.state  # type: ignore[union-attr]
    return b"".join(bytes(made.need(made.size())) for made in state._memories.values())


def both(text: str, calls: list[tuple[Any, ...]]) -> None:
    """Call ``echo-back`` in both ways; results and memory must be the same after each call."""
    component = RUNTIME.load_wat(text)
    with RUNTIME.sandbox(component) as plain, RUNTIME.sandbox(component) as fused:
        for arguments in calls:
            wanted = plain.call("echo-back", *arguments)
            with fused_at_once():
                assert fused.call("echo-back", *arguments) == wanted
            assert memory(fused) == memory(plain), arguments
        assert is_fused(fused)
        assert not is_fused(plain)


def values(of: str) -> list[Any]:
    texts = ["x" * n for n in SIZES]
    data = [bytes(n % 251 for n in range(size)) for size in SIZES]
    return {
        "string": [*texts, "é" * 7, "€uro" * 60, "\0", "😀" * 256, "😀" * 257],
        "list<u8>": [*data, bytearray(b"ab"), memoryview(b"abc")],
        "list<u64>": [list(range(n)) for n in (0, 1, 2, 3, 127, 128, 129, 700)],
        "list<tuple>": [[(n, n % 7) for n in range(count)] for count in (0, 1, 31, 85, 86, 128, 129)],
        "record": [
            {"a": n, "b": b, "c": c, "d": n / 2} for n, (b, c) in enumerate(zip(texts, reversed(data), strict=True))
        ],
        "variant": [
            "none",
            ("text", ""),
            ("text", "t" * 1024),
            ("text", "t" * 600),
            ("big", 1 << 63),
            ("words", [1, 2, 65535]),
            ("words", list(range(64))),
            ("words", list(range(65))),
            ("text", "after"),
            "none",
        ],
        "result": [(Ok("good" * n),) for n in (0, 1, 31, 32, 33, 129)]
        + [(Err(b"bad" * n),) for n in (0, 1, 42, 43, 171)],
        "option": [None, 3, None],
        "flags": [["a"], ["a", "b"], []],
        "char": ["c", "😀"],
    }[of]


TYPES: dict[str, WitType] = {
    "string": "string", "list<u8>": List("u8"), "list<u64>": List("u64"), "list<tuple>": List(Tuple(("u32", "u16"))),
    "record": TEXT, "variant": CASES, "result": Tuple((Result("string", List("u8")),)), "option": Option("u32"),
    "flags": Flags("f", ("a", "b", "c")), "char": "char",
}  # fmt: skip


@pytest.mark.parametrize("of", TYPES)
def test_results_and_the_guests_memory_are_the_same_to_the_byte(of: str) -> None:
    both(own_echo_component(TYPES[of]), [(value,) for value in values(of)])


def test_a_function_that_is_called_often_gets_a_module_of_its_own() -> None:
    with RUNTIME.sandbox(RUNTIME.load_wat(own_echo_component("string"))) as sandbox:
        for n in range(_CALLS_COUNTED + 1):
            assert not is_fused(sandbox)
            assert sandbox.call("echo-back", f"text {n}") == f"text {n}"
        assert is_fused(sandbox)
        for n in range(3):
            assert sandbox.call("echo-back", f"text {n}") == f"text {n}"
        with pytest.raises(CallError, match=r"argument 1, x: expected text"):
            sandbox.call("echo-back", 5)
        sandbox.reset()
        assert not is_fused(sandbox)
        assert sandbox.call("echo-back", "anew") == "anew"


@pytest.mark.parametrize("limits", [{"fuel": 10**9}, {"stack": "64KiB"}], ids=str)
def test_fuel_does_not_depend_on_how_often_and_small_stacks_are_the_guests(limits: dict[str, Any]) -> None:
    mine = runtime(**limits)
    with mine.sandbox(mine.load_wat(own_echo_component("string"))) as sandbox:
        for n in range(_CALLS_COUNTED + 2):
            assert sandbox.call("echo-back", f"text {n}") == f"text {n}"
        assert not is_fused(sandbox)


def many_functions(count: int) -> str:
    text = own_echo_component("string")
    start = text.index('(func (export "echo-back")')
    function = text[start : text.rindex(")")]
    return text[:start] + "\n".join(function.replace("echo-back", f"echo{n}") for n in range(count)) + ")"


def test_functions_beyond_the_limit_of_instances_are_called_step_by_step() -> None:
    mine = runtime(instances=1)
    with mine.sandbox(mine.load_wat(many_functions(8))) as sandbox, fused_at_once():
        for _ in range(2):
            for n in range(8):
                assert sandbox.call(f"echo{n}", "text") == "text"
        assert 0 < len(sandbox._run.store.state._owned) < 8  # type: ignore[union-attr]


CHATTY = """(component
      (import "ask" (func $ask (param "x" string) (result string)))
      (core module $mem (memory (export "memory") 2)
        (global $next (export "next") (mut i32) (i32.const 1024))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
          (global.set $next (i32.add (global.get $next) (i32.const 4096)))
          (drop (memory.grow (i32.const 1)))
          (global.get $next)))
      (core instance $mem (instantiate $mem))
      (core func $ask (canon lower (func $ask)
        (memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))))
      (core module $m
        (import "" "ask" (func $ask (param i32 i32 i32)))
        (import "" "memory" (memory 1))
        (global $calls (mut i32) (i32.const 0))
        (func (export "go") (param i32 i32) (result i32)
          (if (i32.lt_u (i32.and (global.get $calls) (i32.const 3)) (i32.const 2))
            (then (call $ask (local.get 0) (local.get 1) (i32.const 16)))
            (else (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1))))
          (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
          (i32.const 16))
        (func (export "post") (param i32) (i32.store (i32.const 16) (i32.const 0))))
      (core instance $m (instantiate $m (with "" (instance
        (export "ask" (func $ask)) (export "memory" (memory $mem "memory"))))))
      (func (export "go") (param "x" string) (result string) (canon lift (core func $m "go")
        (memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))
        (post-return (core func $m "post")))))"""
"""A guest that in two of four calls asks the host for a string and returns it, and otherwise returns its argument."""


def test_a_guest_that_calls_the_host_in_some_calls_gives_the_same() -> None:
    seen: list[str] = []

    def ask(text: str) -> str:
        seen.append(text)
        return text + "!" * len(seen)

    component = RUNTIME.load_wat(CHATTY)
    with RUNTIME.sandbox(component, imports={"ask": ask}) as sandbox, fused_at_once():
        got = [sandbox.call("go", f"text {n}") for n in range(12)]
        assert is_fused(sandbox)
    asked = [n for n in range(12) if n % 4 < 2]
    assert seen == [f"text {n}" for n in asked]
    assert got == [f"text {n}" + "!" * (asked.index(n) + 1 if n in asked else 0) for n in range(12)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_of_a_host_function_ends_the_call_as_usual(error: type[BaseException]) -> None:
    def ask(text: str) -> str:
        raise error("no")

    ends = ended(RUNTIME, CHATTY, ("go", "text"), {"ask": ask})
    assert ends[0] == ends[1]


def ended(
    mine: Aegis, text: str, call: tuple[Any, ...], imports: dict[str, Any] | None = None
) -> list[tuple[type[BaseException], str]]:  # fmt: skip
    """Return how the same failing call ends in both ways."""
    ends: list[tuple[type[BaseException], str]] = []
    for way in (nullcontext(), fused_at_once()):
        with way, mine.sandbox(mine.load_wat(text), imports=imports) as sandbox:
            try:
                sandbox.call(*call)
            except BaseException as error:
                ends.append((type(error), str(error)))
    assert len(ends) == 2
    return ends


@pytest.mark.parametrize("limits", [{"host_bytes": "1KiB"}, {"value_bytes": "500B"}], ids=str)
def test_budgets_of_bytes_end_a_call_as_ever(limits: dict[str, Any]) -> None:
    ends = ended(runtime(**limits), own_echo_component("string"), ("echo-back", "x" * 900))
    assert ends[0] == ends[1]
    assert ends[0][0] is QuotaExceeded


LIES = {
    "realloc gives an odd address": ("(local.get $at))\n    (func (export", "(i32.const 1025))\n    (func (export"),
    "realloc gives an address beyond": ("(local.get $at))\n    (func (export", "(i32.const -16))\n    (func (export"),
    "realloc traps": ("(local.get $at))\n    (func (export", "(unreachable))\n    (func (export"),
    "post-return traps": ("(global.set $next (i32.const 1024)))", "(unreachable))"),
    "the guest recurses": ("(global.set $next (i32.const 1024)))", "(call $more (local.get 0))) (func $more (param i32)"
                           " (call $more (local.get 0)) (call $more (local.get 0)))"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_a_call_as_ever(lie: str) -> None:
    text = own_echo_component(List("u64"))
    old, new = LIES[lie]
    assert old in text
    ends = ended(RUNTIME, text.replace(old, new), ("echo-back", [1, 2, 3]))
    assert ends[0] == ends[1]
    assert issubclass(ends[0][0], GuestTrap) or "stack" in ends[0][1]


@pytest.mark.parametrize("lie", ["realloc traps", "post-return traps"])
def test_the_frames_of_a_trap_are_the_guests(lie: str) -> None:
    frames = []
    for way in (nullcontext(), fused_at_once()):
        with way, RUNTIME.sandbox(RUNTIME.load_wat(own_echo_component("string").replace(*LIES[lie]))) as sandbox:
            with pytest.raises(GuestTrap) as caught:
                sandbox.call("echo-back", "text")
            frames.append(caught.value.frames)
    assert frames[0] == frames[1]
    assert len(frames[0]) == 1


def test_the_frames_of_a_trap_in_one_of_many_reallocations_are_the_guests() -> None:
    old, _ = LIES["realloc traps"]
    odd = "(if (i32.eq (local.get $align) (i32.const 1)) (then (unreachable))) "
    text = own_echo_component(List("string"))
    assert old in text
    text = text.replace(old, odd + old, 1)
    with RUNTIME.sandbox(RUNTIME.load_wat(text)) as sandbox, pytest.raises(GuestTrap) as caught:
        sandbox.call("echo-back", ["text"] * 20)
    assert len(caught.value.frames) == 1


def test_a_guest_that_does_not_return_is_ended_by_its_deadline() -> None:
    text = own_echo_component("string").replace(
        "(global.set $next (i32.const 1024)))", "(loop $for-ever (br $for-ever)))"
    )
    ends = ended(runtime(timeout="200ms"), text, ("echo-back", "text"))
    assert [of for of, _ in ends] == [DeadlineExceeded, DeadlineExceeded]


FORKED = """
import os, sys
from aegis import Aegis
from aegis.wit.types import List
from tests.component.hot import fused_at_once, is_fused
from tests.echo import own_echo_component
runtime = Aegis(cache=False)
text, many = (runtime.load_wat(own_echo_component(of)) for of in ("string", List("string")))
for component, value in ((text, "text"), (many, ["text"])):
    with runtime.sandbox(component) as sandbox:
        sandbox.call("echo-back", value)
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
with fused_at_once(), runtime.sandbox(text) as sandbox:
    assert sandbox.call("echo-back", "text") == "text"
    assert is_fused(sandbox)
with runtime.sandbox(many) as sandbox:
    assert sandbox.call("echo-back", ["text"] * 40) == ["text"] * 40
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes fork on POSIX")
def test_a_forked_process_compiles_aegis_modules_too() -> None:
    """In a forked child the engine's compilation threads do not exist; waiting for them would never end."""
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], cwd=root, timeout=60, check=False)
    assert done.returncode == 0


# -- what is fused, and the text -------------------------------------------------------------------------


def test_the_pieces_of_a_result_are_its_strings_and_lists_where_they_are() -> None:
    assert pieces("string", "utf8") == (Piece(0, 1, 1, ()),)
    assert pieces(TEXT, "utf8") == (Piece(4, 1, 1, ()), Piece(12, 1, 1, ()))
    assert pieces(CASES, "utf8") == (Piece(8, 1, 1, ((0, 1, 1),)), Piece(8, 2, 2, ((0, 1, 3),)))
    nested = Option(Result(None, Tuple(("u8", "string"))))
    assert pieces(nested, "utf8") == (Piece(12, 1, 1, ((0, 1, 1), (4, 1, 1))),)


@pytest.mark.parametrize(
    "of",
    [
        List("string"), List(List("u8")), List(Tuple(("string", "u8"))), Tuple(("string",) * 5),
        List(Tuple(("u64",) * 3)), List(Borrow(Resource("r", 0))), Tuple(("u64",) * 17),
    ],
    ids=show,
)  # fmt: skip
def test_values_larger_than_vectors_are_not_fused(of: WitType) -> None:
    assert pieces(of, "utf8") is None


def test_strings_of_other_encodings_are_not_fused() -> None:
    assert pieces(Tuple(("string", List("u8"))), "utf16") is None
    assert pieces(List("u8"), "utf16") == (Piece(0, 1, 1, ()),)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_blocks_and_pieces_share_the_vectors(count: int) -> None:
    of = Tuple(("string",) * count)
    shape = Shape(
        ("i32", "i32") * count, "i32", tuple(Block(2 * n, "i32", 1, False) for n in range(count)),
        layout(of).size, layout(of).align, pieces(of, "utf8") or (), True,
    )  # fmt: skip
    assert count * max(shape.block_vectors, shape.piece_vectors) <= 64
    assert shape.slots * 16 >= max(shape.piece_at(count), shape.block_at(count))
    RUNTIME.load_wat(module_text(shape))
