"""Handles and values from a worker are valid (an object the guest holds, a value of the type), or end the worker."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import AegisError, WorkerCrashed
from aegis.component.planning.plain_world import BadWorld, world_from_plain
from aegis.engine.call.door import Door
from aegis.isolation.parent import checked
from aegis.isolation.protocol.channel import ProtocolError, decode, encode
from aegis.isolation.protocol.errors import from_plain
from aegis.isolation.protocol.wit_values import packer, unpacker
from aegis.limits import Limits
from aegis.wit.types import WitType
from tests.component.test_host_resources import COMPONENT as OWNERS
from tests.component.test_host_resources import Thing
from tests.guests.catalogue import GUESTS
from tests.isolation.isolated import only_where_there_are_workers
from tests.isolation.liar import Peer, done, host, lying, said
from tests.security.test_components import HANDLES, Things
from tests.wit.strategies import same, typed_values

pytestmark = only_where_there_are_workers
SOME = settings(max_examples=150, deadline=None)
NO_HANDLES: Any = None
BUDGET = Door(Limits())
ERRORS = ["GuestTrap", "LinkError", "GuestExit", "OutOfFuel", "MemoryExceeded", "CapabilityDenied"]
FIELDS = ("code", "frames", "missing", "limit", "used", "allowed", "phase", "target", "remedy")
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=5)
    | st.binary(max_size=5) | st.sampled_from(["GuestTrap", "LinkError", "GuestExit", "r", "f", "R", "V", "E", "O"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


# -- handles --------------------------------------------------------------------------------------


def asking(*questions: Any) -> Any:
    """Make host calls by name, each with arguments in which ``...`` is the first answer; then return."""

    def script(peer: Peer, _: Any) -> None:
        got: Any = None
        for mine, (number, values) in enumerate(questions, 1):
            peer.send(host(mine, number, [got if v is ... else v for v in values]))
            answer = peer.recv()
            got = answer[3] if got is None else got
        peer.send(done(None))

    return script


OPEN, USE, USE_OTHER, GIVE, DROP, UNFIT = 0, 1, 2, 3, -1, -2
FORGERIES = {
    "never given": [(USE, [77])],
    "of another type": [(OPEN, []), (USE_OTHER, [...])],
    "dropped": [(OPEN, []), (DROP, [...]), (USE, [...])],
    "dropped twice": [(OPEN, []), (DROP, [...]), (DROP, [...])],
    "given twice": [(OPEN, []), (GIVE, [...]), (GIVE, [...])],
    "given and dropped": [(OPEN, []), (GIVE, [...]), (DROP, [...])],
    "negative": [(USE, [-1])],
    "huge": [(USE, [1 << 60])],
    "a text": [(USE, ["1"])],
    "a list dropped": [(DROP, [[1]])],
    "dropped, then not wanted": [(OPEN, []), (DROP, [...]), (UNFIT, [])],
    "not wanted twice": [(OPEN, []), (UNFIT, []), (UNFIT, [])],
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_handle_that_the_guest_does_not_hold_means_nothing(name: str) -> None:
    things = Things()
    sandbox, _ = lying(HANDLES, asking(*FORGERIES[name]), {"test:things/things": things})
    with sandbox, pytest.raises(WorkerCrashed):
        sandbox.call("well")
    assert len(things.used) <= (1 if "given" in name.split() else 0)
    assert things.kind.live >= 0, "nothing is dropped twice"


def test_a_host_function_of_a_component_gets_values_of_its_type_or_is_not_called() -> None:
    for values in ([], [1, 2], ["x"], [None], {}, 5):
        things = Things()
        script = said(host(1, USE, values))
        sandbox, _ = lying(HANDLES, script, {"test:things/things": things})
        with sandbox, pytest.raises(WorkerCrashed):
            sandbox.call("well")
        assert not things.used


def test_an_object_that_was_lent_cannot_be_kept_or_dropped() -> None:
    for answer in (done(None), host(1, DROP, [1])):
        thing = Thing(7)
        sandbox, _ = lying(OWNERS, said(answer), {"use": lambda t: t.number})
        with sandbox, pytest.raises(WorkerCrashed):
            sandbox.call("look", thing)
        assert thing.dropped == 0


def test_the_same_handle_is_not_given_out_twice() -> None:
    text = (GUESTS / "components" / "counter.wat").read_text()
    sandbox, _ = lying(text, said(done(5)))
    with sandbox:
        counter = sandbox.exports["test:counters/counters"].Counter
        counter(1)
        with pytest.raises(WorkerCrashed):
            counter(1)


# -- values ---------------------------------------------------------------------------------------


@SOME
@given(typed_values())
def test_every_value_of_a_type_passes_as_itself(pair: tuple[WitType, Any]) -> None:
    of, value = pair
    plain = decode(encode(packer(of, NO_HANDLES, BUDGET)(value)))
    assert same(unpacker(of, NO_HANDLES, BUDGET)(plain), value)


@SOME
@given(typed_values(), PLAIN)
def test_plain_data_is_a_value_of_the_type_or_is_refused(pair: tuple[WitType, Any], plain: Any) -> None:
    """An accepted value encodes to the same bytes: no value of another type passes."""
    of, _ = pair
    try:
        value = unpacker(of, NO_HANDLES, BUDGET)(plain)
    except ProtocolError:
        return
    assert repr(decode(encode(packer(of, NO_HANDLES, BUDGET)(value)))) == repr(plain)


@SOME
@given(PLAIN)
def test_plain_data_comes_back_from_the_wire(value: Any) -> None:
    assert repr(decode(encode(value))) == repr(value)


@SOME
@given(PLAIN, st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4), st.data())
def test_a_mutated_frame_is_plain_data_or_refused(value: Any, changes: list[tuple[int, int]], data: Any) -> None:
    """Any bytes decode to plain data that encodes again, or raise ``ProtocolError``."""
    raw = encode(value)
    for at, byte in changes:
        raw[at % len(raw)] = byte
    cut = data.draw(st.integers(0, len(raw)))
    for frame in (raw, raw[:cut], raw[cut:] + raw[:cut]):
        try:
            found = decode(bytes(frame))
        except ProtocolError:
            continue
        encode(found)


@SOME
@given(st.binary(max_size=200))
def test_any_bytes_are_plain_data_or_refused(raw: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        encode(decode(raw))


@SOME
@given(PLAIN, st.sampled_from(ERRORS))
def test_any_plain_data_is_an_error_or_refused(value: Any, name: str) -> None:
    fields = dict.fromkeys(
        ("code", "frames", "missing", "limit", "used", "allowed", "phase", "target", "remedy"), value
    )
    for data in (value, [name, "m", value], [name, value, fields], [name, "m", {**fields, "capability": value}]):
        try:
            error = from_plain(data)
        except ProtocolError:
            continue
        assert isinstance(error, AegisError)
        assert str(error).isprintable()


@SOME
@given(PLAIN)
def test_any_plain_data_is_news_or_refused(value: Any) -> None:
    door = Door(Limits())
    fields = value if isinstance(value, list) else [value]
    for read in (checked.observed, checked.decision, checked.line, checked.final_report, checked.layers):
        with contextlib.suppress(ProtocolError):
            read(["x", *fields] if read is not checked.layers else value)
    with pytest.raises(ProtocolError):
        checked.account(value, door, 1, 1)


@SOME
@given(PLAIN)
def test_any_plain_data_is_a_world_or_refused(value: Any) -> None:
    with contextlib.suppress(BadWorld):
        world_from_plain(value)
