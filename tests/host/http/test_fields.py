"""The work of a call on ``fields`` is bounded by the limits, not by the size of its arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aegis.bindings import wasi_http_types as types
from aegis.errors import QuotaExceeded
from aegis.wit.values import Err
from tests.host.http.client import Client


class Untouched(str):
    """A name that fails the test when its contents are read: only its length may be used."""

    def lower(self) -> str:
        raise AssertionError("its case was folded")

    def encode(self, *words: Any) -> bytes:
        raise AssertionError("it was encoded")


class Unread(list[Any]):
    """A list that fails the test when it is iterated."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("it was read")


class Folded(bytes):
    """A name that counts its case foldings."""

    folds = 0

    def lower(self) -> bytes:
        Folded.folds += 1
        return super().lower()


class Named(str):
    """A name whose encoding is one that counts."""

    def encode(self, *words: Any) -> bytes:
        return Folded(super().encode())


LONG = 60_000_000
MANY = 700_000


def full(client: Client) -> Any:
    return client.types.Fields.from_list([(f"x-{n}", b"1") for n in range(256)])


def test_a_name_that_no_message_can_have_is_refused_by_its_length() -> None:
    name = Untouched("x" * LONG)
    with Client() as client:
        fields = full(client)
        assert fields.get(name) == []
        assert not fields.has(name)
        for call in (
            lambda: fields.delete(name), lambda: fields.set_(name, [b"1"]), lambda: fields.append(name, b"1"),
            lambda: client.types.Fields.from_list([(name, b"1")]),
        ):  # fmt: skip
            with pytest.raises(QuotaExceeded) as caught:
                call()
            assert caught.value.limit == "http_field_bytes"
            assert caught.value.used in (LONG, LONG + 1)
        assert len(fields.entries()) == 256


def test_more_fields_than_a_message_may_have_are_refused_by_their_number() -> None:
    with Client() as client:
        fields = client.types.Fields()
        for call in (
            lambda: client.types.Fields.from_list(Unread([("x", b"1")] * MANY)),
            lambda: fields.set_("x", Unread([b"1"] * MANY)),
        ):
            with pytest.raises(QuotaExceeded) as caught:
                call()
            assert (caught.value.limit, caught.value.used) == ("http_fields", MANY)
            assert "(700,000/256 fields of one message): raise it with http_fields or --http-fields" in str(
                caught.value
            )


def test_values_larger_than_a_message_may_have_are_refused_by_their_size() -> None:
    class Unchecked(bytes):
        def __iter__(self) -> Iterator[int]:
            raise AssertionError("it was read")

        def strip(self, *words: Any) -> bytes:
            raise AssertionError("it was read")

    value = Unchecked(LONG)
    with Client() as client:
        fields = client.types.Fields()
        for call in (
            lambda: client.types.Fields.from_list([("x", value)]), lambda: fields.set_("x", [value]),
            lambda: fields.set_("x", [value] * 200), lambda: fields.append("x", value),
        ):  # fmt: skip
            with pytest.raises(
                QuotaExceeded, match=r"[\d,]+/65,536 bytes .*raise it with http_field_bytes or --http-field-bytes"
            ):
                call()
        assert fields.entries() == []


def test_a_call_folds_a_name_once_even_when_the_limits_are_lifted() -> None:
    with Client(http_fields=None, http_field_bytes=None) as client:
        fields = client.types.Fields.from_list([(f"x-{n}", b"1") for n in range(10_000)])
        for call in (
            lambda: fields.get(Named("X-7")), lambda: fields.has(Named("X-7")), lambda: fields.delete(Named("X-7")),
            lambda: fields.append(Named("Y"), b"1"), lambda: fields.set_(Named("Z"), [b"1"] * 10_000),
        ):  # fmt: skip
            Folded.folds = 0
            call()
            assert Folded.folds == 1
        assert len(fields.entries()) == 20_000
        assert len(fields.clone().get("z")) == 10_000


def test_names_compare_without_regard_to_the_case_of_ascii_letters_alone() -> None:
    with Client() as client:
        fields = client.types.Fields.from_list([("Kind", b"1"), ("kind", b"2")])
        assert fields.get("KIND") == [b"1", b"2"]
        assert fields.get("\u212aind") == [], "a Kelvin sign is no letter of a name"
        fields.set_("kInD", [b"3"])
        assert fields.entries() == [("kInD", b"3")]
        fields.delete("KIND")
        assert fields.entries() == []


def test_a_call_that_fails_changes_no_field() -> None:
    with Client(http_fields=3, http_field_bytes=100) as client:
        fields = client.types.Fields.from_list([("a", b"1"), ("b", b"2")])
        before = fields.entries()
        for call in (
            lambda: fields.set_("a", [b"1"] * 4), lambda: fields.set_("a", [b"1", b"x" * 99]),
            lambda: fields.append("c", b"x" * 98),
        ):  # fmt: skip
            with pytest.raises(QuotaExceeded):
                call()
        for values in ([b"1", b"\n"], [b" 1"], [b"\0"]):
            with pytest.raises(Err) as caught:
                fields.set_("a", values)
            assert type(caught.value.value) is types.HeaderErrorInvalidSyntax
        assert fields.entries() == before
        fields.set_("a", [b"1", b"2"])
        assert fields.entries() == [("b", b"2"), ("a", b"1"), ("a", b"2")]


@pytest.mark.parametrize("text", ["x" * LONG, "/" + "a" * LONG])
def test_a_request_keeps_no_text_that_cannot_be_sent(text: str) -> None:
    with Client() as client:
        request = client.types.OutgoingRequest(client.types.Fields())
        for call in (request.set_authority, request.set_path_with_query):
            with pytest.raises(Err):
                call(text)
        for made in (types.MethodOther(text), types.SchemeOther(text)):
            with pytest.raises(Err):
                (request.set_method if isinstance(made, types.MethodOther) else request.set_scheme)(made)
        assert (request.authority(), request.path_with_query()) == (None, None)


@pytest.mark.parametrize(
    ("name", "value"), [("te", b"trailers"), ("TE", b"Trailers"), ("trailer", b"grpc-status"), ("Trailer", b"x-a, x-b")]
)
def test_fields_that_announce_trailers_are_allowed(name: str, value: bytes) -> None:
    """gRPC requires ``te: trailers``; ``Trailer`` names the fields that follow the body (RFC 9110, 6.6.2)."""
    with Client() as client:
        fields = client.types.Fields.from_list([(name, value)])
        assert fields.get(name) == [value]
        fields.set_(name, [value])
        fields.append("x-other", b"1")
        assert (name, value) in fields.entries()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("te", b"gzip"), ("te", b"trailers, deflate"), ("te", b""), ("TE", b"chunked"), ("connection", b"te"),
        ("transfer-encoding", b"chunked"), ("upgrade", b"h2c"), ("keep-alive", b"1"),
    ],
)  # fmt: skip
def test_other_fields_of_the_connection_stay_forbidden(name: str, value: bytes) -> None:
    with Client() as client:
        fields = client.types.Fields()
        for change in (
            lambda: client.types.Fields.from_list([(name, value)]), lambda: fields.set_(name, [value]),
            lambda: fields.append(name, value),
        ):  # fmt: skip
            with pytest.raises(Err) as caught:
                change()
            assert isinstance(caught.value.value, types.HeaderErrorForbidden)
