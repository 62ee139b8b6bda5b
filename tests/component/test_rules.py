"""Rules of the canonical ABI that values do not show: who may leave and enter, the order of calls, the end of scopes.

Each case states its outcome, and the oracle, wasmtime-py's component classes, confirms it on the same component.
"""

from __future__ import annotations

from typing import Any

import pytest

from aegis import GuestTrap
from aegis.wit.types import Function, List, Tuple
from tests.component import aegis_side
from tests.component.oracle import ABI, Native, Outcome, Returned, Trapped, start_native
from tests.component.pairs import Pair

pytestmark = pytest.mark.usefixtures("entries", "ways")

LEAVES = Trapped("cannot-leave-instance")
ENTERS = Trapped("cannot-enter-instance")
UNREACHABLE = Trapped("unreachable")
BREACH = Trapped(ABI)
NONE = Returned(None)

U32 = Function((("x", "u32"),), "u32")
NOTHING = Function()
TEXT = Function((), "string")
TAKES_TEXT = Function((("x", "string"),))


def check(text: str, exports: dict[str, Function], calls: list[Any], imports: dict[str, Any] | None = None) -> None:
    """Make the calls, and check the outcome of each."""
    with Pair(text, exports, imports or {}) as pair:
        ends = pair.check(*(call for *call, _ in calls))
        assert ends == [end for *_, end in calls][: len(ends)]


# -- may leave ------------------------------------------------------------------------------------------


def leaving(body: str) -> str:
    """Return a guest that runs ``body`` in its realloc or post-return function: one that lifts and one that lowers."""
    return f"""(component
      (import "out" (func $out))
      (import "text" (func $text (result string)))
      (type $r (resource (rep i32)))
      (core func $out (canon lower (func $out)))
      (core func $new (canon resource.new $r))
      (core func $rep (canon resource.rep $r))
      (core func $drop (canon resource.drop $r))
      (core module $m
        (import "" "out" (func $out))
        (import "" "new" (func $new (param i32) (result i32)))
        (import "" "rep" (func $rep (param i32) (result i32)))
        (import "" "drop" (func $drop (param i32)))
        (memory (export "memory") 1)
        (func (export "make") (result i32) (call $new (i32.const 5)))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) {body} (i32.const 16))
        (func (export "post") (param i32) {body})
        (func (export "take") (param i32 i32))
        (func (export "say") (result i32) (i32.const 64)))
      (core instance $m (instantiate $m (with "" (instance
        (export "out" (func $out)) (export "new" (func $new)) (export "rep" (func $rep))
        (export "drop" (func $drop))))))
      (core func $text
        (canon lower (func $text) (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
      (core module $n
        (import "" "text" (func $text (param i32)))
        (func (export "fetch") (call $text (i32.const 32))))
      (core instance $n (instantiate $n (with "" (instance (export "text" (func $text))))))
      (func (export "make") (result u32) (canon lift (core func $m "make")))
      (func (export "fetch") (canon lift (core func $n "fetch")))
      (func (export "take") (param "x" string)
        (canon lift (core func $m "take") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
      (func (export "say") (result string)
        (canon lift (core func $m "say") (memory (core memory $m "memory")) (post-return (core func $m "post")))))"""


BODIES = {
    "a lowered import": ("(call $out)", LEAVES),
    "resource.new": ("(drop (call $new (i32.const 1)))", LEAVES),
    "resource.drop": ("(call $drop (i32.const 1))", LEAVES),
    "resource.rep": ("(drop (call $rep (i32.const 1)))", NONE),
    "a function of its own": ("", NONE),
    "unreachable": ("unreachable", UNREACHABLE),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("where", ["take", "say", "fetch"])
def test_realloc_and_post_return_may_not_leave(where: str, name: str) -> None:
    body, end = BODIES[name]
    exports = {"make": Function((), "u32"), "fetch": NOTHING, "take": TAKES_TEXT, "say": TEXT}
    if end == NONE and where == "say":
        end = Returned("")
    calls: list[Any] = [("make", Returned(1)), (where, *(["text"] if where == "take" else []), end)]
    imports = {"out": (NOTHING, lambda: None), "text": (TEXT, lambda: "text")}
    check(leaving(body), exports, calls, imports)


_FRONT = """(component $front
      (import "take" (func $take (param "x" string)))
      (core module $m (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
      (core instance $m (instantiate $m))
      (core func $take (canon lower (func $take) (memory (core memory $m "memory"))))
      (core module $n
        (import "" "take" (func $take (param i32 i32)))
        (func (export "take") (param i32 i32) (call $take (local.get 0) (local.get 1))))
      (core instance $n (instantiate $n (with "" (instance (export "take" (func $take))))))
      (func (export "take") (param "x" string)
        (canon lift (core func $n "take") (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))"""


@pytest.mark.parametrize("name", BODIES)
def test_nor_may_a_realloc_that_another_component_calls(name: str) -> None:
    body, end = BODIES[name]
    text = f"""(component
      (import "out" (func $out))
      (import "text" (func $text (result string)))
      {leaving(body).replace("(component", "(component $inner", 1)}
      {_FRONT}
      (instance $i (instantiate $inner (with "out" (func $out)) (with "text" (func $text))))
      (instance $f (instantiate $front (with "take" (func $i "take"))))
      (export "make" (func $i "make"))
      (export "take" (func $f "take")))"""
    exports = {"make": Function((), "u32"), "take": TAKES_TEXT}
    imports = {"out": (NOTHING, lambda: None), "text": (TEXT, lambda: "text")}
    check(text, exports, [("make", Returned(1)), ("take", "text", end)], imports)


# -- destructors, start functions, reentrance ---------------------------------------------------------


def composed(defining: str, using: str) -> str:
    """A component of two: ``$a`` that defines a resource, and ``$b`` that uses it."""
    return f"""(component
      (import "out" (func $out (param "x" u32)))
      (component $defining {defining})
      (instance $a (instantiate $defining (with "out" (func $out))))
      (component $using {using})
      (instance $b (instantiate $using (with "a" (instance $a)) (with "out" (func $out))))
      (export "foreign" (func $b "foreign"))
      (export "own" (func $a "own")))"""


DEFINING = """(import "out" (func $out (param "x" u32)))
  (core func $out (canon lower (func $out)))
  (core module $d (import "" "out" (func $out (param i32)))
    (func (export "dtor") (param i32) (call $out (local.get 0))))
  (core instance $d (instantiate $d (with "" (instance (export "out" (func $out))))))
  (type $inner (resource (rep i32) (dtor (core func $d "dtor"))))
  (export $r "r" (type $inner))
  (core func $new (canon resource.new $inner))
  (core func $drop (canon resource.drop $inner))
  (core module $m
    (import "" "new" (func $new (param i32) (result i32))) (import "" "drop" (func $drop (param i32)))
    (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
    (func (export "own") (param i32) (call $drop (call $new (local.get 0)))))
  (core instance $m (instantiate $m (with "" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (func (export "make") (param "x" u32) (result (own $r)) (canon lift (core func $m "make")))
  (func (export "own") (param "x" u32) (canon lift (core func $m "own")))"""
USING = """(import "out" (func $out (param "x" u32)))
  (import "a" (instance $a (export "r" (type $r (sub resource)))
    (export "make" (func (param "x" u32) (result (own $r))))))
  (alias export $a "r" (type $r))
  (core func $make (canon lower (func $a "make")))
  (core func $drop (canon resource.drop $r))
  (core module $m
    (import "" "make" (func $make (param i32) (result i32))) (import "" "drop" (func $drop (param i32)))
    (func (export "foreign") (param i32) (call $drop (call $make (local.get 0)))))
  (core instance $m (instantiate $m (with "" (instance (export "make" (func $make)) (export "drop" (func $drop))))))
  (func (export "foreign") (param "x" u32) (canon lift (core func $m "foreign")))"""


TAKER = Function((("x", "u32"),))
DESTRUCTORS = {
    "calls the host": ("(call $out (local.get 0))", NONE),
    "traps": ("unreachable", UNREACHABLE),
}


@pytest.mark.parametrize("which", ["foreign", "own"])
@pytest.mark.parametrize("name", DESTRUCTORS)
def test_a_destructor_runs_at_once_may_leave_and_traps_its_user(name: str, which: str) -> None:
    body, end = DESTRUCTORS[name]
    text = composed(DEFINING.replace("(call $out (local.get 0))", body), USING)
    check(text, {"foreign": TAKER, "own": TAKER}, [(which, 7, end)], {"out": (TAKER, lambda x: None)})


# The component that defines a resource calls out, and is re-entered by the drop of one of its resources.
REENTERING = """(component
  (component $defining
    (core module $d (func (export "dtor") (param i32)))
    (core instance $d (instantiate $d))
    (type $inner (resource (rep i32) (dtor (core func $d "dtor"))))
    (export $r "r" (type $inner))
    (core func $new (canon resource.new $inner))
    (core module $m (import "" "new" (func $new (param i32) (result i32)))
      (func (export "make") (result i32) (call $new (i32.const 3))))
    (core instance $m (instantiate $m (with "" (instance (export "new" (func $new))))))
    (func (export "make") (result (own $r)) (canon lift (core func $m "make")))
    (component $sink
      (import "r" (type $r (sub resource)))
      (core func $drop (canon resource.drop $r))
      (core module $m (import "" "drop" (func $drop (param i32)))
        (func (export "take") (param i32) (call $drop (local.get 0))))
      (core instance $m (instantiate $m (with "" (instance (export "drop" (func $drop))))))
      (func (export "take") (param "x" (own $r)) (canon lift (core func $m "take"))))
    (instance $sink (instantiate $sink (with "r" (type $r))))
    (core func $take (canon lower (func $sink "take")))
    (core module $n
      (import "" "new" (func $new (param i32) (result i32))) (import "" "take" (func $take (param i32)))
      (func (export "go") (call $take (call $new (i32.const 4)))))
    (core instance $n (instantiate $n (with "" (instance (export "new" (func $new)) (export "take" (func $take))))))
    (func (export "go") (canon lift (core func $n "go"))))
  (instance $a (instantiate $defining))
  (export "go" (func $a "go")))"""

PARENT_TO_CHILD = """(component
  (component $child
    (core module $m (func (export "f")))
    (core instance $m (instantiate $m))
    (func (export "f") (canon lift (core func $m "f"))))
  (instance $child (instantiate $child))
  (core func $f (canon lower (func $child "f")))
  (core module $m (import "" "f" (func $f)) (func (export "go") (call $f)))
  (core instance $m (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "go") (canon lift (core func $m "go"))))"""

CHILD_TO_PARENT = """(component
  (core module $m (func (export "f")))
  (core instance $m (instantiate $m))
  (func $f (canon lift (core func $m "f")))
  (component $child
    (import "f" (func $f))
    (core func $f (canon lower (func $f)))
    (core module $m (import "" "f" (func $f)) (func (export "go") (call $f)))
    (core instance $m (instantiate $m (with "" (instance (export "f" (func $f))))))
    (func (export "go") (canon lift (core func $m "go"))))
  (instance $child (instantiate $child (with "f" (func $f))))
  (export "go" (func $child "go")))"""

# A function that is lowered in the instance that lifts it: the instance would call itself.
TO_ITSELF = """(component
  (core module $m (func (export "f")))
  (core instance $m (instantiate $m))
  (func $f (canon lift (core func $m "f")))
  (core func $lowered (canon lower (func $f)))
  (core module $n (import "" "f" (func $f)) (func (export "go") (call $f)))
  (core instance $n (instantiate $n (with "" (instance (export "f" (func $lowered))))))
  (func (export "go") (canon lift (core func $n "go"))))"""


@pytest.mark.parametrize(
    ("text", "end"),
    [(TO_ITSELF, ENTERS), (PARENT_TO_CHILD, NONE), (CHILD_TO_PARENT, NONE), (REENTERING, NONE)],
    ids=["itself", "a child", "its parent", "itself by a destructor"],
)
def test_whom_an_instance_may_call(text: str, end: Outcome) -> None:
    check(text, {"go": NOTHING}, [("go", end)])


NOTE = '(import "note" (func $note (param "x" u32)))'
# Two core instances, a nested component and one instantiated twice, each of which logs its start.
STARTING = f"""(component {NOTE}
  (core func $note (canon lower (func $note)))
  (core module $one (import "" "note" (func $note (param i32)))
    (func $start (call $note (i32.const 1))) (start $start) (func (export "f")))
  (core module $two (import "" "note" (func $note (param i32))) (import "one" "f" (func $f))
    (func $start (call $f) (call $note (i32.const 2))) (start $start))
  (component $nested {NOTE}
    (core func $note (canon lower (func $note)))
    (core module $three (import "" "note" (func $note (param i32)))
      (global $n (mut i32) (i32.const 2))
      (func $start (global.set $n (i32.add (global.get $n) (i32.const 1))) (call $note (global.get $n)))
      (start $start)
      (func (export "n") (result i32) (global.get $n)))
    (core instance $i (instantiate $three (with "" (instance (export "note" (func $note))))))
    (core instance $j (instantiate $three (with "" (instance (export "note" (func $note))))))
    (func (export "n") (result u32) (canon lift (core func $i "n"))))
  (core instance $one (instantiate $one (with "" (instance (export "note" (func $note))))))
  (instance $a (instantiate $nested (with "note" (func $note))))
  (core instance $two (instantiate $two (with "" (instance (export "note" (func $note)))) (with "one" (instance $one))))
  (instance $b (instantiate $nested (with "note" (func $note))))
  (export "n" (func $b "n")))"""


def test_start_functions_run_in_the_order_of_their_instances_and_may_leave() -> None:
    seen: tuple[list[int], list[int]] = ([], [])
    oracle = start_native(STARTING, {"note": seen[0].append})
    assert isinstance(oracle, Native)
    with aegis_side.Guest(STARTING, {"n": Function((), "u32")}, {"note": (TAKER, seen[1].append)}) as guest:
        assert guest.call("n") == oracle.call("n") == Returned(3)
    assert seen[0] == seen[1] == [1, 3, 3, 2, 3, 3]


# Actions that a start function may not perform, or that trap there.
STARTS = {
    "traps": ("(core module $m (func $s unreachable) (start $s)) (core instance (instantiate $m))", UNREACHABLE),
    "reads beyond its memory": (
        """(core module $m (memory 1) (func $s (drop (i32.load (i32.const 65536)))) (start $s))
        (core instance (instantiate $m))""",
        Trapped("memory-out-of-bounds"),
    ),
    "writes a segment beyond its memory": (
        '(core module $m (memory 1) (data (i32.const 65535) "ab")) (core instance (instantiate $m))',
        Trapped("memory-out-of-bounds"),
    ),
    "enters its own instance": (
        """(core module $m (func (export "f"))) (core instance $m (instantiate $m))
        (func $f (canon lift (core func $m "f"))) (core func $l (canon lower (func $f)))
        (core module $n (import "" "f" (func $f)) (start $f))
        (core instance (instantiate $n (with "" (instance (export "f" (func $l))))))""",
        ENTERS,
    ),
    "drops a handle that does not exist": (
        """(type $r (resource (rep i32))) (core func $drop (canon resource.drop $r))
        (core module $n (import "" "drop" (func $drop (param i32))) (func $s (call $drop (i32.const 1))) (start $s))
        (core instance (instantiate $n (with "" (instance (export "drop" (func $drop))))))""",
        BREACH,
    ),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_start_function_that_traps_ends_the_instantiation(name: str) -> None:
    definitions, end = STARTS[name]
    text = f"(component {definitions})"
    assert start_native(text) == end
    with pytest.raises(GuestTrap) as caught:
        aegis_side.Guest(text, {})
    assert aegis_side.trapped(caught.value) == end


# -- what is linked -----------------------------------------------------------------------------------

# A memory, a table and globals that several modules share, as in programs with dynamic libraries.
SHARING = """(component
  (core module $env
    (memory (export "memory") 1) (table (export "table") 4 funcref)
    (global (export "sp") (mut i32) (i32.const 1000)) (global (export "base") i32 (i32.const 2)))
  (core instance $env (instantiate $env))
  (core module $library
    (import "env" "memory" (memory 1)) (import "env" "table" (table 1 funcref))
    (import "env" "base" (global $base i32)) (import "env" "sp" (global $sp (mut i32)))
    (elem (global.get $base) func $twice $push)
    (data (i32.const 64) "shared")
    (func $twice (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
    (func $push (param i32) (result i32)
      (global.set $sp (i32.sub (global.get $sp) (local.get 0))) (global.get $sp)))
  (core instance $library (instantiate $library (with "env" (instance $env))))
  (core module $main
    (import "env" "memory" (memory 1)) (import "env" "table" (table 1 funcref))
    (type $f (func (param i32) (result i32)))
    (func (export "call") (param i32 i32) (result i32) (call_indirect (type $f) (local.get 1) (local.get 0)))
    (func (export "text") (result i32) (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 6))
      (i32.const 0)))
  (core instance $main (instantiate $main (with "env" (instance
    (export "memory" (memory $env "memory")) (export "table" (table $env "table"))))))
  (func (export "call") (param "x" u32) (param "y" u32) (result u32) (canon lift (core func $main "call")))
  (func (export "text") (result string) (canon lift (core func $main "text") (memory (core memory $env "memory")))))"""


def test_modules_share_memories_tables_and_globals() -> None:
    two = Function((("x", "u32"), ("y", "u32")), "u32")
    calls: list[Any] = [
        ("call", 2, 21, Returned(42)), ("call", 3, 8, Returned(992)), ("call", 3, 8, Returned(984)),
        ("text", Returned("shared")), ("call", 0, 1, Trapped("indirect-call-to-null")),
    ]  # fmt: skip
    check(SHARING, {"call": two, "text": TEXT}, calls)
    check(SHARING, {"call": two, "text": TEXT}, [("call", 4, 1, Trapped("table-out-of-bounds"))])


# Functions that reach an export without a core module in between: a lowered import, lifted again.
PASSING = """(component
  (import "f" (func $f (param "x" u32) (result u32)))
  (component $child
    (import "f" (func $f (param "x" u32) (result u32)))
    (core func $l (canon lower (func $f)))
    (func $again (param "x" u32) (result u32) (canon lift (core func $l)))
    (export "again" (func $again)))
  (instance $child (instantiate $child (with "f" (func $f))))
  (instance $inline (export "inner" (func $child "again")))
  (export "again" (func $child "again"))
  (export "inline" (func $inline "inner")))"""


@pytest.mark.parametrize("name", ["again", "inline"])
def test_an_import_that_is_exported_again(name: str) -> None:
    check(PASSING, {name: U32}, [(name, 20, Returned(41))], {"f": (U32, lambda x: 2 * x + 1)})


# -- memory that grows or moves under a value ------------------------------------------------------------

GROWING = """(component
  (import "echo" (func $echo (param "x" $list) (result $list)))
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param $old i32) (param $size i32) (param i32) (param $new i32) (result i32)
      (local $at i32)
      (local.set $at (i32.mul (i32.const 65536)
        (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $new) (i32.const 16))))))
      (memory.copy (local.get $at) (local.get $old)
        (select (local.get $size) (local.get $new) (i32.lt_u (local.get $size) (local.get $new))))
      (local.get $at)))
  (core instance $m (instantiate $m))
  (core func $echo (canon lower (func $echo)
    string-encoding=utf16 (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (core module $n
    (import "" "echo" (func $echo (param i32 i32 i32)))
    (func (export "go") (param i32 i32) (result i32)
      (call $echo (local.get 0) (local.get 1) (i32.const 8)) (i32.const 8)))
  (core instance $n (instantiate $n (with "" (instance (export "echo" (func $echo))))))
  (func (export "go") (param "x" $list) (result $list) (canon lift (core func $n "go")
    string-encoding=utf16 (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))"""


def test_each_realloc_may_grow_the_memory() -> None:
    text = GROWING.replace("(component", "(component (type $list (list string))", 1)
    echo = Function((("x", List("string")),), List("string"))
    texts = ["a", "é€😀", "", "long " * 20_000, "last"]
    check(text, {"go": echo}, [("go", texts, Returned(texts))], {"echo": (echo, lambda x: x)})


# -- post-return, and the areas of results and parameters -----------------------------------------------


def area(of: str, align: int) -> str:
    """Return a guest whose result or parameters are stored at a given address."""
    params = " ".join(f'(param "p{n}" {of})' for n in range(17))
    return f"""(component
      (type $pair (tuple u8 {of}))
      (import "take" (func $take {params}))
      (core module $m
        (memory (export "memory") 1)
        (global $posts (mut i32) (i32.const 0))
        (func (export "at") (param i32) (result i32) (local.get 0))
        (func (export "post") (param i32) (global.set $posts (i32.add (global.get $posts) (local.get 0))))
        (func (export "posts") (result i32) (global.get $posts)))
      (core instance $m (instantiate $m))
      (core func $take (canon lower (func $take) (memory (core memory $m "memory"))))
      (core module $n (import "" "take" (func $take (param i32)))
        (func (export "go") (param i32) (call $take (local.get 0))))
      (core instance $n (instantiate $n (with "" (instance (export "take" (func $take))))))
      (func (export "at") (param "x" u32) (result $pair)
        (canon lift (core func $m "at") (memory (core memory $m "memory")) (post-return (core func $m "post"))))
      (func (export "take") (param "x" u32) (canon lift (core func $n "go")))
      (func (export "posts") (result u32) (canon lift (core func $m "posts"))))"""


@pytest.mark.parametrize(("of", "align"), [("u8", 1), ("u16", 2), ("f32", 4), ("u64", 8)])
def test_an_area_lies_aligned_within_the_memory_and_its_post_return_gets_it(of: str, align: int) -> None:
    zero: Any = 0.0 if of == "f32" else 0
    params = Function(tuple((f"p{n}", of) for n in range(17)))
    exports = {"at": Function((("x", "u32"),), Tuple(("u8", of))), "take": TAKER, "posts": Function((), "u32")}
    imports = {"take": (params, lambda *given: None)}
    with Pair(area(of, align), exports, imports) as pair:
        for size, name, end in ((2 * align, "at", Returned((0, zero))), (17 * align, "take", NONE)):
            last = 65536 - size
            for at in (0, align, last):
                posts = at if name == "at" else 0
                assert pair.check((name, at), ("posts",)) == [end, Returned(posts)], at
            wrong = [last + 1, last + align, 65536, 0xFFFF_FFFF & -align, *([1, align // 2] if align > 1 else [])]
            for at in wrong:
                assert pair.check((name, at)) == [BREACH], at
