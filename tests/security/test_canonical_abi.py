"""Components that violate the canonical ABI, or try to: each ends in a trap, and the process survives.

The attackers are generated from one template, because they differ in one line: the result of a core function where the
canonical ABI expects a pointer, a length, a case, a character or space for a value.
"""

from __future__ import annotations

import pytest

from aegis import Aegis, AegisError, GuestTrap, OutOfFuel, QuotaExceeded, SandboxStateError

RUNTIME = Aegis(cache=False, pooled=False, timeout="20s")
FUELLED = Aegis(cache=False, pooled=False, timeout="20s", fuel=10_000_000)


def liar(result: str, body: str, *, types: str = "", realloc: str = "(i32.const 4096)") -> str:
    """A component whose export ``lie`` has the result type ``result``, and whose core function has this ``body``."""
    return f"""(component
      {types}
      (core module $m
        (memory (export "memory") 1)
        (data (i32.const 100) "\\ff\\fe\\80")
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})
        (func (export "lie") (result i32) {body}))
      (core instance $m (instantiate $m))
      (func (export "lie") (result {result})
        (canon lift (core func $m "lie") (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))"""


def pair(pointer: int, length: int) -> str:
    """Store a pointer and a length at 0 and return 0."""
    return (
        f"(i32.store (i32.const 0) (i32.const {pointer})) (i32.store (i32.const 4) (i32.const {length})) (i32.const 0)"
    )


def cases(count: int, form: str) -> str:
    listed = " ".join(f'(case "c{n}" u32)' if form == "variant" else f'"c{n}"' for n in range(count))
    return f'(type $t ({form} {listed})) (import "t" (type $named (eq $t)))'


LIES: list[tuple[str, str]] = [
    ("string out of bounds", liar("string", pair(65530, 100))),
    ("string of huge length", liar("string", pair(0, -1))),
    ("string at the end of space", liar("string", pair(-1, 2))),
    ("string that is not UTF-8", liar("string", pair(100, 3))),
    (
        "list out of bounds",
        liar("(list u64)", pair(8, 0x1FFFFFFF), types="")
        .replace("(result (list u64))", "(result $l)")
        .replace("(component", "(component (type $l (list u64))", 1),
    ),
    ("list not aligned", liar("$l", pair(1, 2), types="(type $l (list u64))")),
    ("result area out of bounds", liar("string", "(i32.const 65535)")),
    ("result area not aligned", liar("string", "(i32.const 1)")),
    (
        "case that is none",
        liar("$named", "(i32.store8 (i32.const 0) (i32.const 9)) (i32.const 0)", types=cases(3, "variant")),
    ),
    ("enum that is none", liar("$named", "(i32.const 200)", types=cases(3, "enum"))),
    ("char that is a surrogate", liar("char", "(i32.const 0xd800)")),
    ("char beyond Unicode", liar("char", "(i32.const 0x110000)")),
    (
        "option of no case",
        liar("$o", "(i32.store8 (i32.const 0) (i32.const 2)) (i32.const 0)", types="(type $o (option u32))"),
    ),
]


@pytest.mark.parametrize("text", [text for _, text in LIES], ids=[name for name, _ in LIES])
def test_a_lie_about_a_result_is_a_trap(text: str) -> None:
    with RUNTIME.sandbox(RUNTIME.load_wat(text)) as sandbox:
        with pytest.raises(GuestTrap) as caught:
            sandbox.call("lie")
        assert len(str(caught.value)) < 500
        with pytest.raises(SandboxStateError, match="poisoned"):
            sandbox.call("lie")
        sandbox.reset()
        assert sandbox.state == "ready"


ENCODINGS = [
    ("utf16", "a\\00\\3d\\d8\\00\\de", 3, "a\N{GRINNING FACE}"),
    ("utf16", "a\\00\\3d\\d8a\\00", 3, None),
    ("utf16", "a\\00\\00\\de", 2, None),
    ("utf16", "", 0x8000, None),
    ("utf16", "", 0x7FFFFFFF, None),
    ("latin1+utf16", "a\\e9", 2, "aé"),
    ("latin1+utf16", "a\\00\\ac\\20", -0x80000000 + 2, "a€"),
    ("latin1+utf16", "a\\00\\3d\\d8", -0x80000000 + 2, None),
    ("latin1+utf16", "", -1, None),
    ("latin1+utf16", "", 0x10000, None),
]


@pytest.mark.parametrize(("encoding", "octets", "length", "expected"), ENCODINGS)
def test_other_encodings_are_read_or_a_trap(encoding: str, octets: str, length: int, expected: str | None) -> None:
    text = liar("string", pair(200, length)).replace("(realloc", f"string-encoding={encoding} (realloc")
    text = text.replace("(data (i32.const 100)", f'(data (i32.const 200) "{octets}") (data (i32.const 100)')
    with RUNTIME.sandbox(RUNTIME.load_wat(text)) as sandbox:
        if expected is not None:
            assert sandbox.call("lie") == expected
        else:
            with pytest.raises(GuestTrap):
                sandbox.call("lie")


def taker(realloc: str) -> str:
    """A component that takes a string, for which its ``realloc`` must allocate memory."""
    return f"""(component
      (core module $m
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})
        (func (export "take") (param i32 i32)))
      (core instance $m (instantiate $m))
      (func (export "take") (param "text" string)
        (canon lift (core func $m "take") (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))"""


REALLOCS = {
    "out of bounds": "(i32.const 65535)",
    "beyond everything": "(i32.const -8)",
    "unreachable": "unreachable",
    "for ever": "(loop $again (br $again)) (i32.const 0)",
}


@pytest.mark.parametrize("name", REALLOCS)
def test_a_realloc_that_lies_hurts_only_its_guest(name: str) -> None:
    with FUELLED.sandbox(FUELLED.load_wat(taker(REALLOCS[name]))) as sandbox:
        with pytest.raises(OutOfFuel if name == "for ever" else GuestTrap):
            sandbox.call("take", "x" * 100)
        assert sandbox.state == "poisoned"


LEAVING = """(component
  (import "out" (func $out))
  (core func $out (canon lower (func $out)))
  (core module $m
    (import "" "out" (func $out))
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (call $out) (i32.const 16))
    (func (export "post") (param i32) (call $out))
    (func (export "trap") (param i32) unreachable)
    (func (export "spin") (param i32) (loop $again (br $again)))
    (func (export "take") (param i32 i32))
    (func (export "say") (result i32) (i32.const 64)))
  (core instance $m (instantiate $m (with "" (instance (export "out" (func $out))))))
  (func (export "realloc") (param "text" string)
    (canon lift (core func $m "take") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (func (export "post") (result string)
    (canon lift (core func $m "say") (memory (core memory $m "memory")) (post-return (core func $m "post"))))
  (func (export "trap") (result string)
    (canon lift (core func $m "say") (memory (core memory $m "memory")) (post-return (core func $m "trap"))))
  (func (export "spin") (result string)
    (canon lift (core func $m "say") (memory (core memory $m "memory")) (post-return (core func $m "spin")))))"""


@pytest.mark.parametrize(("name", "arguments"), [("realloc", ["x"]), ("post", [])])
def test_nothing_leaves_from_a_realloc_or_a_post_return(name: str, arguments: list[str]) -> None:
    left: list[bool] = []
    with RUNTIME.sandbox(RUNTIME.load_wat(LEAVING), imports={"out": lambda: left.append(True)}) as sandbox:
        with pytest.raises(GuestTrap, match="it called out during realloc or post-return"):
            sandbox.call(name, *arguments)
        assert (left, sandbox.state) == ([], "poisoned")


@pytest.mark.parametrize(("name", "error"), [("trap", GuestTrap), ("spin", OutOfFuel)])
def test_a_post_return_is_a_part_of_the_call(name: str, error: type[AegisError]) -> None:
    with FUELLED.sandbox(FUELLED.load_wat(LEAVING), imports={"out": lambda: None}) as sandbox:
        with pytest.raises(error):
            sandbox.call(name)
        assert sandbox.state == "poisoned"


def test_a_huge_result_is_rejected_by_its_bytes() -> None:
    body = pair(0, 4 << 20)
    text = liar("$l", body, types="(type $l (list u8))").replace(
        '(memory (export "memory") 1)', '(memory (export "memory") 100)'
    )
    runtime = Aegis(cache=False, pooled=False, value_bytes="1MiB")
    with RUNTIME.sandbox(RUNTIME.load_wat(text)) as sandbox:
        assert len(sandbox.call("lie")) == 4 << 20
    with runtime.sandbox(runtime.load_wat(text)) as sandbox:
        with pytest.raises(QuotaExceeded) as caught:
            sandbox.call("lie")
        assert (caught.value.limit, caught.value.used, caught.value.allowed) == ("value_bytes", 4 << 20, 1 << 20)
