"""An unknown export name is reported at once, however many names the guest exports."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import pytest

from aegis.errors import ExportNotFound
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

NAMES = 20_000


def module() -> str:
    return "(module (func $f) " + " ".join(f'(export "name-{n}" (func $f))' for n in range(NAMES)) + ")"


def component() -> str:
    exports = " ".join(f'(export "name-{n}" (func $f))' for n in range(NAMES // 20))
    return f"""(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
      (func $f (canon lift (core func $i "f"))) {exports})"""


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are compared with another."""
    found: list[str] = []

    class Counting(difflib.SequenceMatcher[str]):
        def set_seq1(self, a: Sequence[str]) -> None:
            found.append(str(a))
            super().set_seq1(a)

    monkeypatch.setattr(difflib, "SequenceMatcher", Counting)
    return found


@only_where_there_are_workers
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", [module, component], ids=["module", "component"])
def test_a_missing_export_is_compared_with_a_bounded_number_of_names(
    place: str, text: object, compared: list[str]
) -> None:
    made = runtime(place)
    assert callable(text)
    with made.sandbox(made.load_wat(text())) as sandbox:
        compared.clear()
        with pytest.raises(ExportNotFound) as caught:
            sandbox.call("nothing-of-the-kind")
    assert len(compared) <= 3 * 257
    assert len(str(caught.value)) < 1000
