"""The instantiation steps of a plan equal those derived by hand from the component's text."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings

from aegis.component.planning.plan import plan
from aegis.component.planning.program import (
    CanonLift,
    CanonLower,
    ComponentProgram,
    CoreExport,
    CoreStep,
    Imported,
    Options,
    ResourceFunction,
    ResourceType,
)
from aegis.errors import ArtifactError
from aegis.wasm.component import PREAMBLE, decode_component
from aegis.wit.types import (
    Borrow,
    Enum,
    Flags,
    Function,
    List,
    Option,
    Own,
    Record,
    Resource,
    Result,
    Tuple,
    Variant,
    WitType,
)
from tests.component.inputs import component, components, leb, mutant, part, rearranged, vec
from tests.conftest import is_long
from tests.echo import echo_component, own_echo_component
from tests.wit.strategies import wit_types


def planned(text: str) -> ComponentProgram:
    return plan(component(text)[1])


def refusal(text: str) -> str:
    with pytest.raises(ArtifactError) as caught:
        planned(text)
    return str(caught.value)


LIBC = """(core module $libc (memory (export "m") 1)
  (func (export "r") (param i32 i32 i32 i32) (result i32) unreachable)
  (func (export "f") (param i32)) (func (export "drop") (param i32)))
  (core instance $libc (instantiate $libc))"""
MEMORY, REALLOC = CoreExport(0, "m", "memory"), CoreExport(0, "r", "func")


def test_an_empty_component_does_nothing() -> None:
    assert planned("(component)") == ComponentProgram((), (), (), (), (), {}, (None,))


def test_a_function_is_lifted_with_its_options() -> None:
    program = planned(f"""(component {LIBC}
      (core module $m (func (export "g") (param i32 i32) (result i32) unreachable) (func (export "p") (param i32)))
      (core instance $m (instantiate $m))
      (func (export "greet") (param "name" string) (result string)
        (canon lift (core func $m "g") string-encoding=latin1+utf16 (memory (core memory $libc "m"))
          (realloc (core func $libc "r")) (post-return (core func $m "p")))))""")
    options = Options("latin1+utf16", MEMORY, REALLOC, CoreExport(1, "p", "func"))
    of = Function((("name", "string"),), "string")
    assert program.exports == {"greet": CanonLift(CoreExport(1, "g", "func"), options, of, 0)}
    assert program.steps == (CoreStep(0, (), 0), CoreStep(1, (), 0))


def test_modules_are_where_they_lie() -> None:
    data, binary = component("(component (core module (memory 1)) (component (core module)) (core module (func)))")
    program = plan(binary)
    assert [data[start : start + 4] for start, _ in program.modules] == [b"\0asm"] * 3
    assert [end - start for start, end in program.modules] == [m.end - m.start for m in binary.modules]


def test_core_imports_are_in_the_order_of_the_module() -> None:
    program = planned("""(component (import "h" (func $h))
      (core module $a (func (export "x")) (memory (export "m") 1) (table (export "t") 1 funcref)
        (global (export "g") i32 (i32.const 1)))
      (core instance $a (instantiate $a))
      (core func $h (canon lower (func $h)))
      (core module $b (import "two" "h" (func)) (import "one" "m" (memory 1)) (import "one" "x" (func))
        (import "two" "again" (table 1 funcref)) (import "one" "g" (global i32)) (import "one" "x" (func)))
      (core instance (instantiate $b (with "one" (instance $a))
        (with "two" (instance (export "h" (func $h)) (export "again" (table $a "t")))))))""")
    x = CoreExport(0, "x", "func")
    memory, table, number = CoreExport(0, "m", "memory"), CoreExport(0, "t", "table"), CoreExport(0, "g", "global")
    assert program.steps[1] == CoreStep(1, (0, memory, x, table, number, x), 0)
    assert program.trampolines == (CanonLower(Imported("", "h", Function()), Options(), 0),)


def test_each_imported_function_is_there_once_in_its_order() -> None:
    program = planned("""(component
      (import "b" (func $b (result u8)))
      (import "a:a/a@1.0.0" (instance $a
        (export "r" (type $r (sub resource))) (type $own (own $r)) (export "z" (func (result $own)))
        (export "y" (func (param "self" (borrow $r))))))
      (alias export $a "z" (func $z))
      (core func (canon lower (func $z))) (core func (canon lower (func $b))) (core func (canon lower (func $z))))""")
    r = Resource("r", 0)
    b = Imported("", "b", Function((), "u8"))
    z = Imported("a:a/a@1.0.0", "z", Function((), Own(r)))
    y = Imported("a:a/a@1.0.0", "y", Function((("self", Borrow(r)),)))
    assert program.imported == (b, z, y)
    assert [t.function for t in program.trampolines if isinstance(t, CanonLower)] == [z, b, z]
    assert program.resources == (ResourceType("r", None, None),)


NESTED = f"""(component
  (import "log" (func $log (param "x" u32)))
  (component $child
    (import "log" (func $log (param "x" u32)))
    (core func $log (canon lower (func $log)))
    (core module $m (import "" "log" (func (param i32))) (func (export "go") (param i32)))
    (core instance $m (instantiate $m (with "" (instance (export "log" (func $log))))))
    (func (export "go") (param "x" u32) (canon lift (core func $m "go"))))
  (component $parent
    (alias outer 1 $child (component $child))
    (import "log" (func $log (param "x" u32)))
    (instance $one (instantiate $child (with "log" (func $log))))
    (instance $two (instantiate $child (with "log" (func $one "go"))))
    (export "both" (func $two "go")))
  {LIBC}
  (instance $parent (instantiate $parent (with "log" (func $log))))
  (export "go" (func $parent "both")))"""


def test_components_within_are_instantiated_each_time_in_order() -> None:
    """The root is 0, its parent component 1, the children 2 and 3, each with its own core instance and trampoline."""
    program = planned(NESTED)
    assert program.parents == (None, 0, 1, 1)
    log = Imported("", "log", Function((("x", "u32"),)))
    first = CanonLift(CoreExport(1, "go", "func"), Options(), log.type, 2)
    second = CanonLift(CoreExport(2, "go", "func"), Options(), log.type, 3)
    assert program.steps == (CoreStep(1, (), 0), CoreStep(0, (0,), 2), CoreStep(0, (1,), 3))
    assert program.trampolines == (CanonLower(log, Options(), 2), CanonLower(first, Options(), 3))
    assert program.exports == {"go": second}


def test_a_component_is_an_argument_and_its_outer_aliases_stay() -> None:
    program = planned("""(component
      (core module $m (func (export "f")))
      (component $made (alias outer 1 $m (core module $m)) (core instance $i (instantiate $m))
        (func (export "f") (canon lift (core func $i "f"))))
      (component $maker (import "c" (component $c (export "f" (func)))) (core module $other (memory 1))
        (instance $a (instantiate $c)) (instance $b (instantiate $c)) (export "f" (func $b "f")))
      (instance $x (instantiate $maker (with "c" (component $made))))
      (export "f" (func $x "f")))""")
    assert program.parents == (None, 0, 1, 1)
    assert [step.module for step in program.steps] == [0, 0]
    assert program.exports == {"f": CanonLift(CoreExport(1, "f", "func"), Options(), Function(), 3)}


def test_a_core_module_is_an_argument() -> None:
    program = planned("""(component
      (component $c (import "m" (core module $m (import "" "f" (func)) (export "g" (func))))
        (core module $f (func (export "f"))) (core instance $f (instantiate $f))
        (core instance $i (instantiate $m (with "" (instance $f))))
        (func (export "g") (canon lift (core func $i "g"))))
      (core module $mine (import "" "f" (func)) (export "g" (func 0)) (memory (export "extra") 1))
      (instance $c (instantiate $c (with "m" (core module $mine))))
      (export "g" (func $c "g")))""")
    assert program.steps == (CoreStep(0, (), 1), CoreStep(1, (CoreExport(0, "f", "func"),), 1))


def test_instances_are_passed_exported_and_made_inline() -> None:
    program = planned(f"""(component {LIBC}
      (func $f (param "x" u32) (canon lift (core func $libc "f")))
      (instance $inline (export "f" (func $f)) (export "g" (func $f)))
      (component $c (import "i" (instance $i (export "f" (func (param "x" u32)))))
        (export "again" (instance $i)))
      (instance $c (instantiate $c (with "i" (instance $inline))))
      (export "direct" (instance $inline)) (export "passed" (instance $c "again")))""")
    lifted = CanonLift(CoreExport(0, "f", "func"), Options(), Function((("x", "u32"),)), 0)
    direct = program.exports["direct"]
    assert isinstance(direct, dict)
    assert direct == {"f": lifted, "g": lifted}
    assert direct["f"] is direct["g"]
    assert program.exports["passed"]["f"] is lifted or program.exports["passed"]["f"] == lifted  # type: ignore[index]


def test_an_export_adds_to_its_index_space() -> None:
    program = planned(f"""(component {LIBC}
      (type $r (resource (rep i32) (dtor (core func $libc "drop")))) (export $s "thing" (type $r))
      (func $f (param "x" (own $s)) (canon lift (core func $libc "f")))
      (export $g "f" (func $f)) (export "h" (func $g)))""")
    f = CanonLift(CoreExport(0, "f", "func"), Options(), Function((("x", Own(Resource("thing", 0))),)), 0)
    assert program.exports == {"f": f, "h": f}
    assert program.resources == (ResourceType("thing", 0, CoreExport(0, "drop", "func")),)


def test_each_instantiation_has_resource_types_of_its_own() -> None:
    program = planned("""(component
      (component $c
        (type $r (resource (rep i32))) (export $s "r" (type $r))
        (core func $new (canon resource.new $r)) (core func $rep (canon resource.rep $r))
        (core func $drop (canon resource.drop $r))
        (core module $m (import "" "new" (func $new (param i32) (result i32))) (export "make" (func $new)))
        (core instance $m (instantiate $m (with "" (instance (export "new" (func $new))))))
        (func (export "make") (param "x" u32) (result (own $s)) (canon lift (core func $m "make"))))
      (instance $a (instantiate $c)) (instance $b (instantiate $c))
      (export "a" (instance $a)) (export "b" (instance $b)))""")
    assert program.resources == (ResourceType("r", 1, None), ResourceType("r", 2, None))
    assert program.trampolines == tuple(
        ResourceFunction(operation, key, key + 1) for key in (0, 1) for operation in ("new", "rep", "drop")
    )
    a, b = program.exports["a"], program.exports["b"]
    assert (a["make"].type.result, b["make"].type.result) == (Own(Resource("r", 0)), Own(Resource("r", 1)))  # type: ignore[index]


def test_a_resource_type_that_is_passed_along_stays_the_same() -> None:
    program = planned("""(component
      (import "host" (instance $host (export "file" (type (sub resource)))))
      (alias export $host "file" (type $file))
      (import "other" (instance $other
        (alias outer 1 $file (type $f)) (export "same" (type (eq $f))) (export "new" (type (sub resource)))
        (export "use" (func (param "f" (borrow $f))))))
      (component $c
        (import "t" (type $t (sub resource)))
        (import "i" (instance $i (export "u" (type (sub resource)))))
        (alias export $i "u" (type $u))
        (core func (canon resource.drop $t)) (core func (canon resource.drop $u)) (export "mine" (type $t)))
      (instance $c (instantiate $c (with "t" (type $file))
        (with "i" (instance (export "u" (type $other "same"))))))
      (alias export $c "mine" (type $mine)) (core func (canon resource.drop $mine))
      (alias export $other "new" (type $new)) (core func (canon resource.drop $new)))""")
    assert [r.name for r in program.resources] == ["file", "new"]
    assert program.trampolines == (
        ResourceFunction("drop", 0, 1), ResourceFunction("drop", 0, 1), ResourceFunction("drop", 0, 0),
        ResourceFunction("drop", 1, 0),
    )  # fmt: skip
    (use,) = program.imported
    assert use.type == Function((("f", Borrow(Resource("file", 0))),))


def test_types_are_aliased_from_outside_and_named_by_their_export() -> None:
    program = planned(f"""(component {LIBC}
      (type $point (record (field "x" u32)))
      (component $c (alias outer 1 $point (type $p)) (import "point" (type $q (eq $p)))
        (type $points (list $q)) (type $many (tuple $q $points (option $q) (result $q (error string))))
        (import "take" (func (param "all" $many))))
      (import "take" (func $take (param "all" (tuple u8)))))""")
    assert program.imported[0].type.params == (("all", Tuple(("u8",))),)
    shared = planned("""(component
      (type $p (record (field "x" u32))) (import "point" (type $q (eq $p)))
      (type $e (enum "a" "b")) (import "kind" (type $k (eq $e)))
      (type $f (flags "r" "w")) (import "mode" (type $m (eq $f)))
      (type $v (variant (case "one" $q) (case "none"))) (import "either" (type $w (eq $v)))
      (import "take" (func (param "all" (tuple $q (list $q) (option $k) (result $m) $w)))))""")
    point = Record("point", (("x", "u32"),))
    either = Variant("either", (("one", point), ("none", None)))
    whole = Tuple((point, List(point), Option(Enum("kind", ("a", "b"))), Result(Flags("mode", ("r", "w"))), either))
    assert shared.imported[0].type.params == (("all", whole),)
    assert whole.elements[0] == shared.imported[0].type.params[0][1].elements[0]  # type: ignore[union-attr]


def test_names_of_types_do_not_stay_from_one_plan_to_the_next() -> None:
    planned('(component (type $u u8) (import "byte" (type (eq $u))))')
    program = planned('(component (type $u u8) (import "f" (func (param "x" $u))))')
    assert program.imported[0].type.params == (("x", "u8"),)


# -- what does not resolve, and what Aegis does not run ----------------------------------------------------------------

INVALID = {
    "type": ('(component (import "f" (func (type 3))))', "type 3 does not exist"),
    "kind of type": ('(component (type u8) (import "f" (func (type 0))))', "type 0 has the wrong kind"),
    "value type": ("(component (type (func)) (type (list 0)))", "type 0 has the wrong kind"),
    "resource": ("(component (type u8) (type (own 0)))", "type 0 has the wrong kind"),
    "builtin": ("(component (type u8) (core func (canon resource.new 0)))", "type 0 has the wrong kind"),
    "func": ("(component (core func (canon lower (func 0))))", "func 0 does not exist"),
    "core func": ("(component (type (func)) (func (type 0) (canon lift (core func 0))))", "core func 0 does not exist"),
    "lifted type": (
        f'(component {LIBC} (type u8) (func (type 0) (canon lift (core func $libc "f"))))', "has the wrong kind"
    ),
    "memory": ('(component (type (func)) (import "f" (func (type 0))) (core func (canon lower (func 0) (memory 0))))',
               "core memory 0 does not exist"),
    "core module": ("(component (core instance (instantiate 0)))", "core module 0 does not exist"),
    "component": ("(component (instance (instantiate 0)))", "component 0 does not exist"),
    "instance": ('(component (alias export 0 "x" (func)))', "instance 0 does not exist"),
    "export": (f'(component {LIBC} (alias core export $libc "none" (core func)))', "exports no func 'none'"),
    "kind of export": (f'(component {LIBC} (alias core export $libc "m" (core func)))', "exports no func 'm'"),
    "component export": ('(component (instance) (alias export 0 "x" (func)))', "exports no func 'x'"),
    "core argument": ('(component (core module $m (import "a" "b" (func))) (core instance (instantiate $m)))',
                      "lacks the argument 'a'"),
    "argument": ('(component (component $c (import "a" (func))) (instance (instantiate $c)))', "lacks the func 'a'"),
    "kind of argument": ('(component (component $c (import "a" (func))) (instance $i) '
                         '(instance (instantiate $c (with "a" (instance $i)))))', "lacks the func 'a'"),
    "outer": ("(component (alias outer 1 0 (type)))", "goes 1 levels out"),
    "outer index": ("(component (component (alias outer 1 0 (type))) (instance (instantiate 0)))", "type 0 does not"),
    "exported": ('(component (export "f" (func 0)))', "func 0 does not exist"),
    "representation": ("(component (type (resource (rep i64))))", "represented by i64"),
    "instance type": ('(component (type (component)) (import "i" (instance (type 0))))', "the type of a component"),
    "resource in a type": (
        '(component (type (instance (type (resource (rep i32))))) (import "i" (instance (type 0))))', "a resource type"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", INVALID)
def test_unresolvable_references_are_refused_by_name(what: str) -> None:
    text, message = INVALID[what]
    said = refusal(text)
    assert message in said
    assert said.startswith("not a valid WebAssembly component: ")


NOT_RUN = {
    "map": ("(component (type (map u8 u8)))", "maps"),
    "fixed length": ("(component (type (list u8 3)))", "lists of fixed length"),
    "error context": ("(component (type (list error-context)))", "error contexts"),
    "in a stream": ('(component (import "i" (instance (type (stream (map u8 u8))))))', "maps"),
    "in an async type": ('(component (type (func async (result error-context))))', "error contexts"),
    "async lower": ('(component (import "f" (func $f)) (core func (canon lower (func $f) async)))', "as async"),
    "thread": ("(component (core func (canon thread.index)))", "the canonical built-in thread.index"),
    "error context built-in": (
        "(component (core func (canon error-context.drop)))", "the canonical built-in error-context.drop"
    ),
    "module import": ('(component (import "m" (core module)))', "the import m is a core module"),
    "component import": ('(component (import "c" (component)))', "the import c is a component"),
    "nested instance": (
        '(component (import "i" (instance (export "n" (instance)))))', "i, n, is an instance, which a WIT interface"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_RUN)
def test_unsupported_features_are_refused_by_name(what: str) -> None:
    text, message = NOT_RUN[what]
    assert message in refusal(text)


def test_nested_instances_of_any_depth_are_refused_even_without_a_name() -> None:
    """Each type contains two instances of the type before: expanding all of them would not terminate in practice."""
    types = [b"\x42\0"] + [
        b"\x42" + vec(b"\2\3\2\1" + leb(n), *[b"\4\0\1" + name + b"\5\0" for name in (b"a", b"b")]) for n in range(2000)
    ]
    for name in (b"\1i", b"\0"):
        data = PREAMBLE + part(7, vec(*types)) + part(10, vec(b"\0" + name + b"\5" + leb(2000)))
        with pytest.raises(ArtifactError, match=", a, is an instance, which a WIT interface cannot contain"):
            plan(decode_component(data))


def test_an_alias_in_an_imported_type_names_an_instance_of_that_type() -> None:
    data = PREAMBLE + part(7, vec(b"\x42" + vec(b"\2\3\0\0\1t"))) + part(10, vec(b"\0\1i\5\0"))
    with pytest.raises(ArtifactError, match="instance 0 does not exist"):
        plan(decode_component(data))


def test_values_and_start_functions_of_components_are_refused() -> None:
    for data in (part(9, b"\0\0\0"), part(12, vec(b"\x7d\1\1")), part(10, vec(b"\0\1v\2\1\x7d"))):
        with pytest.raises(ArtifactError, match="value definitions or a start function, which Aegis does not support"):
            plan(decode_component(PREAMBLE + data))


# -- any type, any mutant ---------------------------------------------------------------------------------------------


def unnamed(of: WitType | None) -> object:
    """Return a type without the names of records, variants, enums and flags."""
    match of:
        case List(inner) | Option(inner):
            return type(of).__name__, unnamed(inner)
        case Tuple(parts):
            return "tuple", tuple(map(unnamed, parts))
        case Result(ok, err):
            return "result", unnamed(ok), unnamed(err)
        case Record(_, members) | Variant(_, members):
            return type(of).__name__, tuple((label, unnamed(part)) for label, part in members)
        case Enum(_, labels) | Flags(_, labels):
            return type(of).__name__, labels
    return of


@given(wit_types())
@settings(max_examples=60)
def test_any_type_is_planned_as_it_was_stated(of: WitType) -> None:
    """Oracle: the functions of a component generated for a type have that type, as imports and as exports."""
    (imported,) = planned(echo_component(of)).imported
    exported = planned(own_echo_component(of)).exports["echo-back"]
    assert isinstance(exported, CanonLift)
    for function in (imported.type, exported.type):
        assert unnamed(function.result) == unnamed(of) == unnamed(function.params[0][1])


def test_any_mutant_is_planned_or_refused() -> None:
    """Oracle: decoding and planning mutated components returns, or raises ``ArtifactError``."""
    choose = random.Random(7)
    small = [data for data in components().values() if 8 < len(data) < 10_000]
    planned_ones = 0
    for n in range(6000 if is_long() else 2000):
        data = choose.choice(small)
        changed = mutant(data, range(8, len(data)), choose) if n % 2 else rearranged(data, choose)
        with contextlib.suppress(ArtifactError):
            plan(decode_component(changed))
            planned_ones += 1
    assert planned_ones > 100
