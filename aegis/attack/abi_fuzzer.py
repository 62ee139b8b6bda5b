"""The ABI fuzzer: components that violate the canonical ABI, generated and minimised by hypothesis."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.errors import HypothesisException

from aegis.attack.cases import AFTER, ENCODINGS, REALLOCS, THING, WASI, AbiCase, ExportCase, PeerCase, component_text
from aegis.attack.codegen import RawCall
from aegis.attack.inputs import Artifacts, AttackInput, Make, seeded_random
from aegis.engine.compile.artifact import text_to_binary
from aegis.wit.types import (
    PRIMITIVES,
    Borrow,
    Enum,
    Flags,
    Function,
    List,
    Option,
    Own,
    Record,
    Result,
    Tuple,
    Variant,
    WitType,
)

__all__ = ["abi_cases", "draw_case", "liar", "shrink_case"]

_MAX_RANDOM_BYTES = 1 << 16
"""Most random bytes from which one test case is drawn."""
_SETTINGS: dict[str, Any] = {
    "deadline": None, "suppress_health_check": list(HealthCheck), "report_multiple_bugs": False,
}  # fmt: skip
_ODD = (
    0, 1, 2, 3, 4, 7, 8, 16, 17, 31, 32, 64, 127, 128, 255, 256, 1024, 4096, 0xD800, 0xDFFF, 0xFFFF, 0x10000, 0x10FFFF,
    0x110000, 65528, 65532, 65535, 65536, 65537, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFF0, 0xFFFFFFFF,
    0x7FC00000, 0x7F800001, 0x100000000, 0x7FF8000000000000, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF,
)  # fmt: skip


# -- strategies ------------------------------------------------------------------------------------

_bits = st.sampled_from(_ODD) | st.integers(0, 300) | st.integers(0, (1 << 64) - 1)
_raw = st.tuples(st.sampled_from(("const", "const", "kept", "load")), _bits)
_words = st.sampled_from([n for n in _ODD if n < 1 << 32]) | st.integers(0, 64) | st.integers(0, (1 << 32) - 1)


def _names(most: int, letter: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.integers(1, most).map(lambda count: tuple(f"{letter}{n}" for n in range(count)))


def _wider(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    maybe = st.none() | inner
    return st.one_of(
        inner.map(List),
        inner.map(Option),
        st.lists(inner, min_size=1, max_size=4).map(lambda parts: Tuple(tuple(parts))),
        st.builds(Result, maybe, maybe),
        st.lists(inner, min_size=1, max_size=3).map(_record),
        st.lists(maybe, min_size=1, max_size=4).map(_variant),
    )


def _record(fields: list[WitType]) -> Record:
    return Record("record", tuple((f"f{n}", of) for n, of in enumerate(fields)))


def _variant(cases: list[WitType | None]) -> Variant:
    return Variant("variant", tuple((f"c{n}", of) for n, of in enumerate(cases)))


_plain: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(PRIMITIVES),
    st.sampled_from(("string", "char", List("u8"), List("string"))),
    _names(300, "e").map(lambda names: Enum("enum", names)),
    _names(32, "b").map(lambda names: Flags("flags", names)),
)
_types = st.recursive(_plain, _wider, max_leaves=6)
_results = st.none() | _plain | st.just(Own(THING)) | st.recursive(_plain | st.just(Own(THING)), _wider, max_leaves=6)
_params = st.recursive(_plain | st.just(Own(THING)), _wider, max_leaves=4) | st.just(Borrow(THING))


def _function(params: list[Any], result: Any) -> Function:
    return Function(tuple((f"p{n}", of) for n, of in enumerate(params)), result)


_functions = st.builds(_function, st.lists(_params, max_size=3), _results)
_calls = st.builds(RawCall, st.integers(0, 200), st.lists(_raw, max_size=6).map(tuple))
_exported = st.builds(
    ExportCase, function=_functions, calls=st.lists(_calls, max_size=12).map(tuple),
    returns=st.lists(_raw, max_size=4).map(tuple), after=st.sampled_from(list(AFTER)),
)  # fmt: skip
_peers = st.builds(
    PeerCase, returns=st.lists(_raw, max_size=4).map(tuple), after=st.sampled_from([n for n in AFTER if n != "call"]),
    realloc=st.sampled_from(list(REALLOCS)), encoding=st.sampled_from(ENCODINGS),
)  # fmt: skip
abi_cases: st.SearchStrategy[AbiCase] = st.builds(
    AbiCase, exports=st.lists(_exported, min_size=1, max_size=3).map(tuple),
    wasi=st.lists(st.sampled_from(WASI), max_size=3, unique=True).map(tuple),
    host=st.builds(_function, st.lists(_types, max_size=2), st.none() | _types),
    memory=st.lists(_words, max_size=48).map(tuple), pages=st.sampled_from((1, 1, 1, 0, 2, 8)),
    realloc=st.sampled_from(list(REALLOCS)), dtor=st.sampled_from(list(AFTER)), opens=st.booleans(),
    careful=st.booleans(),
    encoding=st.sampled_from(ENCODINGS), peer=st.none() | _peers,
)  # fmt: skip
"""Test cases of the ABI fuzzer."""


# -- the source --------------------------------------------------------------------------------------


def liar(seed: int, artifacts: Artifacts) -> Make:
    """Return the source of components that violate the canonical ABI."""

    def make(number: int) -> AttackInput:
        _, case = draw_case(seed, number)
        return AttackInput(source="liar", number=number, data=text_to_binary(component_text(case)), label=_label(case))

    return make


def _label(case: AbiCase) -> str:
    return f"liar: {len(case.exports)} functions, realloc {case.realloc}, imports {', '.join(case.wasi) or 'no WASI'}"


def draw_case(seed: int, number: int) -> tuple[bytes, AbiCase]:
    """Return a test case, and the random bytes that hypothesis draws it from.

    The case depends on these bytes only, so seed and number reproduce it in any process.
    """
    rng, size = seeded_random(seed, "liar", number), 512
    while True:
        choices = rng.randbytes(size)
        _found.clear()
        _keep.hypothesis.fuzz_one_input(choices)  # type: ignore[attr-defined]
        if _found:
            return choices, _found[0]
        size = min(2 * size, _MAX_RANDOM_BYTES)  # hypothesis ran out of bytes: try with more


_found: list[AbiCase] = []


@settings(**_SETTINGS, database=None)
@given(abi_cases)
def _keep(case: AbiCase) -> None:
    _found.append(case)


class _FaultShown(Exception):
    """Marks a test case that shows the fault as a failure, for hypothesis to shrink."""


class _OutOfTime(BaseException):
    """Ends the shrinking. It is a ``BaseException``, which hypothesis does not catch."""


def shrink_case(seed: int, number: int, shows: Callable[[bytes], bool], until: float) -> bytes | None:
    """Return the simplest component for which ``shows`` is true, starting from input ``number`` of the source.

    Return ``None`` if it is false for that input. Shrinking stops at ``until`` on the monotonic clock.
    """
    best: list[bytes] = []

    @settings(**_SETTINGS, database=InMemoryExampleDatabase(), phases=[Phase.reuse, Phase.shrink])
    @given(abi_cases)
    def tried(case: AbiCase) -> None:
        if time.monotonic() >= until:
            raise _OutOfTime
        data = text_to_binary(component_text(case))
        if shows(data):
            best.append(data)
            raise _FaultShown

    choices, _ = draw_case(seed, number)
    with suppress(_FaultShown, _OutOfTime, HypothesisException):
        tried.hypothesis.fuzz_one_input(choices)  # type: ignore[attr-defined]  # a failure is saved in the database
    with suppress(_FaultShown, _OutOfTime, HypothesisException):
        tried()
    return best[-1] if best else None
