"""A component behaves isolated as in process: values, imports, resources, grants."""

from __future__ import annotations

import asyncio
import enum
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from aegis import (
    Aegis,
    Bound,
    CallError,
    Err,
    FilesystemCapability,
    HostError,
    NetworkCapability,
    Ok,
    Outcome,
    QuotaExceeded,
    SandboxStateError,
)
from aegis.wit.types import Function, Interface, Result, WitType
from tests.component.test_host_resources import COMPONENT as OWNERS
from tests.component.test_host_resources import Thing
from tests.echo import echo_component
from tests.guests.catalogue import GUESTS, built
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime, shared
from tests.security.test_components import HANDLES, Things
from tests.test_async import COMPONENT as API
from tests.test_async import Api
from tests.wit.strategies import same, typed_values

pytestmark = only_where_there_are_workers
COUNTERS = "test:counters/counters"


@pytest.fixture(params=PLACES)
def aegis(request: pytest.FixtureRequest) -> Aegis:
    return shared(str(request.param))


# -- values ---------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(typed_values())
def test_every_kind_of_value_goes_through_the_worker_and_back(pair: tuple[WitType, Any]) -> None:
    of, value = pair
    seen: list[Any] = []

    def echo(given: Any) -> Any:
        seen.append(given)
        return given

    aegis = shared("isolated")
    function = Function((("x", of),), of)
    provider = Bound(Interface("", {"echo": function}), echo)
    with aegis.sandbox(aegis.load_wat(echo_component(of)), imports={"echo": provider}) as box:
        try:
            returned = box.bind(Interface("", {"echo-back": function})).echo_back(value)
            returned = Ok(returned) if isinstance(of, Result) else returned
        except Err as declared:
            returned = declared
    assert same(seen[0], value)
    assert same(returned, value)


def echoing(aegis: Aegis, of: str, answer: Any) -> Any:
    """Return a sandbox that passes a value of type ``of`` to the host, which returns ``answer``."""
    return aegis.sandbox(aegis.load_wat(echo_component(of)), imports={"echo": lambda _: answer})


class Level(enum.IntEnum):
    LOW = 3


class Name(str):
    __slots__ = ()


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    ("of", "value"),
    [("u32", Level.LOW), ("u32", True), ("string", Name("x")), ("f64", 3), ("u8", 300), ("string", "\ud800"),
     ("char", "ab"), ("bool", 1), ("u64", 10**40), ("string", None), ("s8", 1.0), ("u32", object()), ("f32", "1.5")],
    ids=range(13),
)  # fmt: skip
@pytest.mark.parametrize("side", ["argument", "result"])
def test_a_value_of_doubtful_type_is_taken_or_refused_alike(of: str, value: Any, side: str) -> None:
    good = {"string": "a", "char": "c", "f64": 1.0, "f32": 1.0, "bool": True}.get(of, 1)
    ends = []
    for place in PLACES:
        with echoing(shared(place), of, value if side == "result" else good) as box:
            try:
                ends.append(("returned", box.call("echo-back", value if side == "argument" else good)))
            except (CallError, HostError) as error:
                ends.append((type(error).__name__, str(error)))
    assert ends[0] == ends[1]


# -- imports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_objects_of_the_host_are_served_awaited_and_may_fail(place: str) -> None:
    async def plus(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    async def main() -> None:
        aegis = shared(place)
        with aegis.sandbox(aegis.load_wat(API), imports={"test:api/api": Api(plus)}) as box:
            assert await box.acall("go", 41) == 42
            assert await box.acall("text") == "héllo"
            assert await box.acall("may", 5) == 5
            with pytest.raises(Err, match="negative"):
                await box.acall("may", -1)
            assert box.state == "ready"

    asyncio.run(main())


# -- resources ------------------------------------------------------------------------------------


def test_the_guests_resources_are_made_used_moved_and_dropped(aegis: Aegis) -> None:
    with aegis.sandbox(aegis.load_file(GUESTS / "components" / "counter.wat")) as box:
        counter = box.exports[COUNTERS].Counter
        one, two = counter(5), counter(7)
        assert one.increment(3) == 8
        assert box.exports[COUNTERS].larger(one, two)
        assert one.merge(two) == 15
        with pytest.raises(CallError, match="moved into the guest"):
            two.increment(1)
        assert counter.live() == 1
        one.drop()
        one.drop()
        assert counter.live() == 0
        with counter(1):
            assert counter.live() == 1
        assert counter.live() == 0
        left = counter(9)
    with pytest.raises((CallError, SandboxStateError)):
        left.increment(1)
    left.drop()


def test_a_handle_of_another_sandbox_is_refused(aegis: Aegis) -> None:
    component = aegis.load_file(GUESTS / "components" / "counter.wat")
    with aegis.sandbox(component) as one, aegis.sandbox(component) as two:
        foreign = two.exports[COUNTERS].Counter(1)
        mine = one.exports[COUNTERS].Counter(1)
        with pytest.raises(CallError, match="another sandbox"):
            one.exports[COUNTERS].larger(mine, foreign)
        assert mine.increment(1) == 2


def owners(aegis: Aegis) -> Any:
    return aegis.sandbox(aegis.load_wat(OWNERS), imports={"use": lambda thing: thing.number})


def test_the_hosts_resources_are_lent_given_and_given_back(aegis: Aegis) -> None:
    thing, kept, gone = Thing(7), Thing(1), Thing(2)
    with owners(aegis) as box:
        assert [box.call("look", thing) for _ in range(3)] == [7, 7, 7]
        box.call("keep", kept)
        assert box.call("back") is kept
        box.call("drop", gone)
        assert (thing.dropped, kept.dropped, gone.dropped) == (0, 0, 1)
        assert box.call("sum", [Thing(n) for n in range(5)]) == 10
        assert box.call("pair", thing) == (thing, 5)


def test_resources_the_guest_never_received_are_not_dropped_with_it(aegis: Aegis) -> None:
    things = [Thing(1), None]
    with owners(aegis) as box:
        with pytest.raises(CallError):
            box.call("first", things)
        with pytest.raises(CallError):
            box.call("first", [Thing(1), 5, None])
        assert things[0].dropped == 0  # type: ignore[union-attr]
    assert things[0].dropped == 0  # type: ignore[union-attr]


def test_resources_the_guest_still_holds_are_dropped_once_with_its_sandbox(aegis: Aegis) -> None:
    thing = Thing(1)
    box = owners(aegis)
    box.call("keep", thing)
    assert thing.dropped == 0
    box.close()
    assert thing.dropped == 1


@pytest.mark.parametrize("place", PLACES)
def test_a_flood_of_handles_ends_at_its_limit(place: str) -> None:
    things = Things()
    aegis = runtime(place, handles=100)
    with (
        aegis.sandbox(aegis.load_wat(HANDLES), imports={"test:things/things": things}) as box,
        pytest.raises(QuotaExceeded),
    ):
        box.call("flood")
    assert things.kind.live == 0


@pytest.mark.parametrize("name", ["forge", "use-after-drop", "drop-twice", "use-after-give", "of-another-type"])
def test_a_forged_handle_reaches_no_object_in_either_place(aegis: Aegis, name: str) -> None:
    things = Things()
    with aegis.sandbox(aegis.load_wat(HANDLES), imports={"test:things/things": things}) as box:
        assert box.run(name).status == "trap"
    assert not things.used or name == "use-after-give"


# -- grants, in pairs -----------------------------------------------------------------------------


def run(place: str, guest: str, *words: str, **policy: Any) -> Outcome:
    aegis = runtime(place, **policy)
    with aegis.sandbox(aegis.load_file(built(guest)), args=(guest, *words)) as box:
        entry = "_start" if box.module.kind == "module" else "wasi:cli/run#run"  # type: ignore[union-attr]
        return box.run(entry)


@pytest.mark.usual("cat-component-isolated", "cat-in-process")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("guest", ["cat", "cat-component"])
def test_files_are_read_and_written_only_where_that_was_granted(place: str, guest: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("granted\n")
    (tmp_path / "b").write_text("beside\n")
    read, write = (
        {"filesystem": make(f"{tmp_path}::/in")}
        for make in (FilesystemCapability.read_only, FilesystemCapability.read_write)
    )
    assert run(place, guest, "/in/a", **read).stdout == b"granted\n"
    assert b"granted" not in run(place, guest, "/in/a").stdout
    assert not run(place, guest, "-o", "/in/new", "/in/a", **read).ok
    assert not (tmp_path / "new").exists()
    assert run(place, guest, "-o", "/in/new", "/in/a", **write).ok
    assert (tmp_path / "new").read_text() == "granted\n"
    single = {"filesystem": FilesystemCapability.read_only(f"{tmp_path / 'a'}::/in/a")}
    assert run(place, guest, "/in/a", **single).stdout == b"granted\n"
    assert b"beside" not in run(place, guest, "/in/b", **single).stdout


CONNECTS = "py-net"


@pytest.mark.parametrize("place", PLACES)
def test_a_connection_on_loopback_needs_its_rule(place: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(100))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        policy = {"fuel": None, "timeout": "60s"}
        denied = connecting(place, port, **policy)
        assert denied.stdout.startswith(b"refused: ")
        allowed = connecting(place, port, network=NetworkCapability(allow=[f"tcp://127.0.0.1:{port}"]), **policy)
        assert allowed.stdout == b"got b'ping'\n"
        thread.join(20)


def connecting(place: str, port: int, **policy: Any) -> Outcome:
    aegis = runtime(place, **{"cache": True, "isolation": {"compile_time": "300s"}, **policy})
    component = aegis.load_file(built(CONNECTS))
    with aegis.sandbox(component, args=(CONNECTS, "client", "127.0.0.1", str(port))) as box:
        from aegis.sandbox.entry_points import entry_point

        return box.run(entry_point(component))


# -- programs of WASI 0.3 ---------------------------------------------------------------------------


@pytest.mark.usual("isolated-True")
@pytest.mark.parametrize(("place", "strict"), [("in-process", False), ("isolated", True)])
def test_a_program_of_wasi_0_3_works_with_every_layer_and_with_its_grants_alone(
    place: str, strict: bool, tmp_path: Path
) -> None:
    """Files, timers, streams and standard output; without the grant the same program has no directory."""
    data = bytes(range(256)) * 1000
    (tmp_path / "from").write_bytes(data)
    limits: dict[str, Any] = {"fuel": None, "timeout": "60s", "cache": True}
    isolation = {"compile_time": "300s", "strict": strict}

    def said(*args: str, **grants: Any) -> bytes:
        made = runtime(place, isolation=isolation, **limits, **grants)
        with made, made.sandbox(made.load_file(built("py-async")), args=("py-async", *args)) as box:
            return bytes(box.run("wasi:cli/run@0.3.0#run").stdout)

    writing = FilesystemCapability.read_write(tmp_path)
    assert said("copy", "from", "to", filesystem=writing) == b"Ok(value=None)\n"
    assert (tmp_path / "to").read_bytes() == data
    assert said("pieces", "from", filesystem=writing) == b"256000\n"
    assert said("sleep", "100", "60000") == b"1 60\n"
    assert b"Ok" not in said("copy", "from", "other")
