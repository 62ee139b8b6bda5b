"""A long text means the same whether a thread converts it in one go, as the main thread does, or in pieces.

Oracle: CPython's whole conversion, and the same call on the main thread: value, error, reallocs and charges.
The sizes of pieces are lowered to a few bytes, so that their ends fall between and within all characters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis import Aegis
from aegis.component.conversion import lower, strings
from aegis.isolation.protocol import frames
from aegis.support import pieces
from aegis.wit.types import List, Record
from tests.echo import Manner, logging_echo_component

_Result = TypeVar("_Result")
TEXTS = st.text(st.sampled_from("aé\xffĀ漢\ud7ff\ue000\uffff😀\U0010ffff"), max_size=40)
ENCODINGS = ["utf8", "utf16", "latin1+utf16"]


@pytest.fixture(autouse=True, params=[3, 7, 16])
def small(request: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """Cut texts of more than a few bytes into pieces of a few bytes."""
    for module in (pieces, strings, lower, frames):
        monkeypatch.setattr(module, "MAX_WHOLE_BYTES", 4)
    monkeypatch.setattr(pieces, "_CHUNK_BYTES", request.param)
    return request.param


def elsewhere(function: Callable[[], _Result]) -> _Result:
    """Return the result of a function on another thread, or raise its error."""
    found: list[_Result] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(function())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def outcome(function: Callable[[], Any]) -> Any:
    """Return the result of a function, or the class and text of its error."""
    try:
        return function()
    except Exception as error:
        return type(error), str(error)


# -- conversions -----------------------------------------------------------------------------------


def test_the_main_thread_converts_whole_and_others_in_pieces(small: int) -> None:
    assert not pieces.in_pieces(1 << 40)
    assert elsewhere(lambda: (pieces.in_pieces(4), pieces.in_pieces(5))) == (False, True)
    parts = elsewhere(lambda: [*pieces.text_pieces("aé漢😀".encode() * 20, "utf-8")])
    assert len(parts) > 5
    assert max(len(part.encode()) for part in parts) <= small + 3


@given(TEXTS, st.sampled_from(["utf-8", "utf-16-le", "latin-1"]))
def test_a_text_is_encoded_and_decoded_alike(text: str, encoding: str) -> None:
    whole = outcome(lambda: text.encode(encoding))
    cut = outcome(lambda: elsewhere(lambda: bytes(pieces.encoded(text, encoding))))
    assert cut == whole if isinstance(whole, bytes) else cut[0] is whole[0]
    data = text.encode("utf-16-le" if encoding == "utf-16-le" else "utf-8")
    named = "utf-16-le" if encoding == "utf-16-le" else "utf-8"
    assert elsewhere(lambda: pieces.decoded(memoryview(data), named)) == text
    assert elsewhere(lambda: pieces.has_astral(memoryview(text.encode()))) == any(ord(c) > 0xFFFF for c in text)
    assert elsewhere(lambda: pieces.is_ascii(memoryview(text.encode()))) == text.isascii()


@given(st.binary(max_size=40), st.integers(0, 9))
def test_bytes_are_copied_alike(data: bytes, at: int) -> None:
    whole, cut = bytearray(60), bytearray(60)
    pieces.copy_bytes(memoryview(whole), at, data)
    elsewhere(lambda: pieces.copy_bytes(memoryview(cut), at, data))
    assert cut == whole == bytes(at) + data + bytes(60 - at - len(data))


@given(
    st.binary(max_size=30)
    | st.lists(
        st.sampled_from([b"a", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"\xf0\x9f", b"\xd8\x00", b"\x00\xd8", b"\x80"]),
        max_size=9,
    ).map(b"".join),
    st.sampled_from(["utf-8", "utf-16-le"]),
    st.sampled_from(["strict", "surrogatepass"]),
)
def test_malformed_data_is_rejected_alike(data: bytes, encoding: str, errors: str) -> None:
    whole = outcome(lambda: str(data, encoding, errors))
    cut = outcome(lambda: elsewhere(lambda: pieces.decoded(memoryview(data), encoding, errors)))
    assert cut == whole if isinstance(whole, str) else cut[0] is whole[0]


@given(st.text(st.sampled_from("aé漢😀\ud800\udfff"), max_size=30))
def test_a_text_with_lone_surrogates_is_found_and_passes_the_channel(text: str) -> None:
    whole = outcome(text.encode)
    assert elsewhere(lambda: pieces.is_unicode(text)) == pieces.is_unicode(text) == isinstance(whole, bytes)
    data = frames.encode([text, text])
    assert elsewhere(lambda: frames.encode([text, text])) == data
    assert elsewhere(lambda: frames.decode(data)) == frames.decode(data) == [text, text]


@pytest.mark.usual("7", "16")
@given(st.lists(st.sampled_from(["a", "é", "Ā", "漢", "😀"]), max_size=3).map("".join).map(lambda t: t * 30_000))
def test_a_long_text_of_a_message_has_the_same_charge_everywhere(text: str) -> None:
    data = frames.encode(text)
    width = max([1, *(1 if ord(c) < 0x100 else 2 if ord(c) < 0x10000 else 4 for c in set(text))])
    assert frames._long_width(text.encode()) == frames._width(text.encode()) == width
    for budget in (len(data), len(text) * width + 200, 10**9):
        assert outcome(lambda b=budget: frames.decode(data, budget=b)) == outcome(
            lambda b=budget: elsewhere(lambda: frames.decode(data, budget=b))
        )


# -- calls -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runtime() -> Iterator[Aegis]:
    with Aegis(cache=False, value_bytes="1MiB") as made:
        yield made


def called(runtime: Aegis, guest: Any, value: Any) -> tuple[Any, Any, Any, Any]:
    """Return the result of an echo, the guest's log of its reallocs, and the charged bytes."""
    with runtime.sandbox(guest, imports={"echo": lambda x: x} if "echo" in guest.world.imports else None) as sandbox:
        result = outcome(lambda: sandbox.call("echo-back", value))
        usage = sandbox.usage
        return result, outcome(lambda: sandbox.call("log")), usage.bytes_in, usage.bytes_out


CASES = [
    ("string", "aé漢😀" * 20), ("string", "a" * 70 + "😀"), ("string", "é" * 99), ("string", "漢" * 50),
    ("string", "a" * 99),
    ("string", "\xff" * 40 + "Ā"), ("string", "ab\ud800c" * 9), ("string", b"not text"), ("string", 5),
    (List("string"), ["a" * 30, "é" * 30, "", "😀" * 20, "x"] * 3), (List("string"), ["a" * 9] * 40),
    (List("string"), ["ok" * 9, "\udfff" * 9]), (List("string"), ["a" * 9, 5]),
    (Record("r", (("x", "string"), ("y", List("string")))), {"x": "漢" * 30, "y": ["é" * 9]}),
    (Record("r", (("x", "string"), ("y", List("string")))), {"x": "\ud800" * 30, "y": []}),
]  # fmt: skip


@pytest.mark.usual(every=5)
@pytest.mark.parametrize("through", [False, True], ids=["stored", "through the host"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_call_in_another_thread_has_the_same_result_reallocs_and_charges(
    runtime: Aegis, encoding: str, through: bool
) -> None:
    guests = {}
    for of, value in CASES:
        if of not in guests:
            guests[of] = runtime.load_wat(logging_echo_component([of], Manner(encoding=encoding, through=through)))
        here = called(runtime, guests[of], value)
        assert here == elsewhere(lambda of=of, value=value: called(runtime, guests[of], value)), (of, value)


@pytest.mark.usual(every=4)
@pytest.mark.parametrize("text", ["a" * 500, "é" * 300, "漢" * 200, "😀" * 150, "a" * 400 + "😀"])
def test_the_limit_on_values_ends_a_call_alike(text: str) -> None:
    for limit in (200, 500, 700, 1000, 2000, 3000):
        with Aegis(cache=False, value_bytes=limit) as made:
            guest = made.load_wat(logging_echo_component(["string"], Manner()))
            assert called(made, guest, text) == elsewhere(lambda m=made, g=guest: called(m, g, text))
