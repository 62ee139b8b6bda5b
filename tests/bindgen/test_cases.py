"""Values of variants have ``case`` and ``value`` whether bindings generated their classes or not.

Oracle: the names and payloads of the type table beside the classes, and the classes that Aegis makes at run time.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis import CallError
from aegis.component.conversion.construct import constructor
from aegis.wit.json_read import from_json
from aegis.wit.json_write import to_json
from aegis.wit.python_types import with_python_types
from aegis.wit.types import Option, Variant
from aegis.wit.values import Ok, Some
from aegis.wit.wave_write import format_value
from tests.bindgen.golden.keyvalue.acme_kv_store import ERROR, ErrorDenied, ErrorMissing
from tests.bindgen.support import ROOT, bindings, imported, linted, package, typed


def tables() -> Iterator[Any]:
    """Yield each variant's table in the bindings of Aegis and in the golden files."""
    for folder, name in ((ROOT / "aegis" / "bindings", "aegis.bindings"), *golden()):
        for path in sorted(folder.glob("*.py")):
            module = import_module(name if path.stem == "__init__" else f"{name}.{path.stem}")
            for key, value in vars(module).items():
                if isinstance(value, Variant) and value.python:
                    yield pytest.param(value, id=f"{module.__name__}.{key}")


def golden() -> Iterator[tuple[Path, str]]:
    for folder in sorted((ROOT / "tests" / "bindgen" / "golden").iterdir()):
        if any(folder.glob("*.py")):
            yield folder, f"tests.bindgen.golden.{folder.name}"


TABLES = list(tables())


def test_there_are_variants_with_and_without_payloads() -> None:
    payloads = [payload for table in TABLES for _, payload in table.values[0].cases]
    assert len(TABLES) > 15
    assert 0 < payloads.count(None) < len(payloads)


@pytest.mark.parametrize("of", TABLES)
def test_a_class_has_the_name_of_its_case_and_the_payload_or_none(of: Variant) -> None:
    for cls, (name, payload) in zip(of.python, of.cases, strict=True):  # type: ignore[arg-type]
        value: Any = cls() if payload is None else cls("payload")
        assert (cls.case, value.case, value.value) == (name, name, None if payload is None else "payload")
        for attribute in ("case", "value"):
            # Python 3.11 raises a TypeError for an attribute that is no field of a frozen dataclass with slots.
            with pytest.raises((AttributeError, TypeError)):
                setattr(value, attribute, "other")
            with pytest.raises((AttributeError, TypeError)):
                delattr(value, attribute)
        assert (value.case, cls.case) == (name, name)
        hint = get_type_hints(cls, vars(import_module(cls.__module__)))["case"]
        assert hint == ClassVar[Literal[name]]  # type: ignore[valid-type]


@pytest.mark.parametrize("of", TABLES)
def test_the_properties_cost_no_construction_and_change_no_value(of: Variant) -> None:
    """The name of the case is an attribute of the class: objects have no more fields and slots than their payload."""
    for cls, (_, payload) in zip(of.python, of.cases, strict=True):  # type: ignore[arg-type]
        names = () if payload is None else ("value",)
        assert tuple(field.name for field in dataclasses.fields(cls)) == names
        assert vars(cls)["__slots__"] == cls.__match_args__ == names  # type: ignore[attr-defined]
        value: Any = cls() if payload is None else cls(5)
        assert repr(value) == f"{cls.__qualname__}({'' if payload is None else 'value=5'})"
        for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert (other, hash(other), other.case) == (value, hash(value), value.case)
        fast = constructor(cls)
        assert payload is None or fast is not cls, "lifting fills the slots without __init__"
        assert (fast() if payload is None else fast(5)) == value


# -- dynamic and generated -------------------------------------------------------------------------

PLAIN = Variant("error", (("missing", None), ("denied", "string")), owner=ERROR.owner)
DYNAMIC: Any = with_python_types(PLAIN)


def told(value: Any) -> str:
    """Return the text of a value by the two properties alone."""
    return value.case if value.value is None else f"{value.case}: {value.value}"


@given(st.none() | st.text(st.characters(exclude_categories=["Cs"])))
def test_code_that_works_with_dynamic_values_works_with_generated_ones(text: str | None) -> None:
    """Both are written by either table, and by a type without classes, to the same JSON and WAVE."""
    number, payload = (0, ()) if text is None else (1, (text,))
    generated, dynamic = ERROR.python[number](*payload), DYNAMIC.python[number](*payload)  # type: ignore[index]
    assert told(generated) == told(dynamic)
    for write in (to_json, format_value):
        written = {write(value, of) for value in (generated, dynamic) for of in (ERROR, DYNAMIC, PLAIN)}
        assert len(written) == 1
    (json,) = {to_json(generated, PLAIN)}
    assert from_json(json, ERROR) == generated
    assert from_json(json, DYNAMIC) == dynamic
    again = from_json(json, PLAIN)
    assert (again.case, again.value) == (generated.case, generated.value)


def test_an_absent_option_is_a_payload() -> None:
    of = Variant("v", (("maybe", Option("u8")),))
    value = with_python_types(of).python[0](None)  # type: ignore[union-attr, index]
    assert (to_json(value, of), format_value(value, of)) == ('{"maybe": null}', "maybe(none)")


class Named:
    case = "missing"


def test_a_value_of_another_variant_is_no_case() -> None:
    of = Variant("other", (("denied", None), ("missing", "u8")))
    for value in (
        ErrorDenied("x"),
        ErrorMissing(),
        DYNAMIC.python[0](),
        DYNAMIC.python[1]("x"),
        Some(1),
        Ok(1),
        Named(),
    ):
        for write in (to_json, format_value):
            with pytest.raises(CallError, match=r"is not a case of other|expected"):
                write(value, of)


ODD = """package a:b;
interface i {
  variant literal { class-var, value(u32), %case(string), wide-name-of-a-case-beyond-the-line-of-a-file(string) }
  enum class-var { a }
  record protocol { x: literal, value: class-var, %case: u8 }
  variant ok { ok, some(option<u32>), none(option<option<u32>>) }
  f: func(x: literal, y: protocol, o: ok) -> class-var;
}
world w { import i; export i; }
"""


def test_odd_names_keep_their_spelling_in_code_that_is_formatted_and_typed(tmp_path: Path) -> None:
    package(tmp_path / "odd_cases", bindings(tmp_path, ODD))
    use = """
from odd_cases.a_b_i import Literal_, LiteralValue, OkNone, OkSome, Protocol_

def told(x: Literal_) -> int | str | None:
    if x.case == "value":
        number: int = x.value
        return number
    if x.case == "class-var":
        none: None = x.value
        return none
    return x.value

def unwrapped(x: OkSome) -> int | None:
    return x.value
"""
    (tmp_path / "use.py").write_text(use, encoding="utf-8")
    assert typed(tmp_path) == ""
    (tmp_path / "use.py").unlink()
    linted(tmp_path)
    imported(tmp_path, "odd_cases")
