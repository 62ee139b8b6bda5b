"""A compile worker compromised by its input: its answers are believed only as far as they are possible.

Whatever it answers, the embedder gets a documented error in time, the worker is discarded, and nothing stays open.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import Aegis, AegisError, ArtifactError, DeadlineExceeded, MemoryExceeded, WorkerCrashed
from aegis.component.planning.plain_world import BadWorld, world_from_plain, world_to_plain
from aegis.isolation.protocol.channel import ProtocolError, encode
from tests.echo import echo_component
from tests.guests.catalogue import GUESTS
from tests.isolation.isolated import isolated, only_where_there_are_workers, runtime
from tests.isolation.liar import Liar, Peer
from tests.isolation.test_lying_values import PLAIN
from tests.isolation.test_lying_worker import RAW

pytestmark = only_where_there_are_workers
MODULE = '(module (func (export "go") (result i32) i32.const 7))'
COMPONENT = (GUESTS / "components" / "counter.wat").read_text()
MODULES = 3
"""Core modules of the component."""
CODE = b"code" * MODULES
HERE: Aegis = runtime("in-process")
TRUE: list[Any] = world_to_plain(HERE.load_wat(COMPONENT).world)  # type: ignore[union-attr]
Speech = Callable[[Peer, Sequence[int]], None]


class LyingCompiler(Liar):
    """Receives an artifact and the file for its code; ``speak`` answers and writes arbitrary data."""

    def __init__(self, speak: Speech) -> None:
        self._speech = speak
        super().__init__(lambda peer, message: None)

    def _speak(self) -> None:
        with suppress(ProtocolError, OSError):
            _, descriptors = self._peer.recv_with(200)
            try:
                self._speech(self._peer, descriptors)
                self._peer.recv()
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
        with suppress(OSError):
            self._peer.socket.shutdown(socket.SHUT_RDWR)


def answering(*messages: Any, code: bytes = CODE) -> Speech:
    """Return a ``speak`` that writes ``code`` and sends these messages; bytes are sent unchanged."""

    def speak(peer: Peer, descriptors: Sequence[int]) -> None:
        os.pwrite(descriptors[1], code, 0)
        for each in messages:
            if isinstance(each, bytes):
                peer.socket.sendall(each)
            else:
                peer.send(each)

    return speak


def description(world: Any, *lengths: int) -> list[Any]:
    """Return the answer that describes a component with this world, and code of these lengths."""
    return ["done", [world, list(lengths or [4] * MODULES)], []]


def loaded(text: str, speak: Speech, **isolation: Any) -> Any:
    """Load a text with a compromised compile worker."""
    aegis = isolated(isolation={"workers": 0, "compile_time": "20s", **isolation})
    return loaded_by(aegis, text, speak)


def loaded_by(aegis: Aegis, text: str, speak: Speech) -> Any:
    """Load a text; only its compile worker is compromised, and it must be gone afterwards."""
    liar = LyingCompiler(speak)
    pool: Any = aegis._isolated.pool
    pool.take = lambda: liar
    try:
        return aegis.load_wat(text)
    finally:
        del pool.take
        assert liar.shared == -1, "it was discarded"


def refused(text: str, speak: Speech, **isolation: Any) -> AegisError:
    before = len(os.listdir("/proc/self/fd"))
    try:
        loaded(text, speak, **isolation)
    except AegisError as error:
        found = error.with_traceback(None)  # its frames refer to the data
        found.__context__ = None
    else:
        raise AssertionError("it was believed")
    assert str(found).isprintable()
    assert len(os.listdir("/proc/self/fd")) <= before
    return found


def breached(text: str, speak: Speech, **isolation: Any) -> None:
    """The error must name the protocol, not time or memory."""
    error = refused(text, speak, **isolation)
    assert type(error) is WorkerCrashed, error
    assert "broke the protocol" in str(error)


# -- answers that are none ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RAW)
def test_frames_that_cannot_be_read_are_a_breach(name: str) -> None:
    breached(COMPONENT, answering(RAW[name]))


ANSWERS: list[Any] = [
    None, 5, "text", [], [[]], {}, ["what"], ["done"], ["done", None], ["done", None, [], 1], ["done", 5, []],
    ["done", [], []], ["done", "world", []], ["done", {}, []], ["fail"], ["fail", None], ["fail", 5, []],
    ["fail", ["X", "m", {}], []], ["fail", ["ArtifactError", 5, {}], []], ["fail", ["ArtifactError", "m"], []],
    ["host", 1, 0, []], ["called", "m", "n", 0.1, None], {"done": None}, ["done", b"", []], [["done"], None, []],
    ["done", None, 5],
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_answers_that_mean_nothing_are_a_breach(number: int) -> None:
    breached(MODULE if ANSWERS[number] != ["done", None, []] else COMPONENT, answering(ANSWERS[number]))


def test_a_component_without_a_world_and_a_module_with_one_are_a_breach() -> None:
    breached(COMPONENT, answering(["done", None, []]))
    breached(COMPONENT, answering(["done", TRUE, []]))
    breached(MODULE, answering(description(TRUE)))
    breached(MODULE, answering(["done", TRUE, []]))


ENDS: list[Any] = [
    ["GuestExit", "", {"code": 0}], ["GuestTrap", "m", {"code": "x", "frames": []}], ["HostError", "m", {}],
    ["CapabilityDenied", "m", {"capability": "c", "target": "t", "remedy": "r"}], ["Cancelled", "m", {}],
    ["LinkError", "m", {"missing": []}], ["OutOfFuel", "m", {"limit": "fuel", "used": 1, "allowed": 1}],
]  # fmt: skip


@pytest.mark.parametrize("error", ENDS, ids=lambda e: e[0])
def test_compiling_cannot_end_as_only_a_guest_can(error: Any) -> None:
    """In particular, a guest's exit with code 0 would be a false success."""
    breached(MODULE, answering(["fail", error, []]))


def test_a_valid_answer_of_a_compiler_is_believed_and_printed_escaped() -> None:
    error = refused(MODULE, answering(["fail", ["ArtifactError", "no\x1b[2J\n\u202e", {}], []]))
    assert type(error) is ArtifactError
    fields = {"limit": "compile_memory", "phase": "compile", "used": None, "allowed": 5}
    assert type(refused(MODULE, answering(["fail", ["MemoryExceeded", "m", fields], []]))) is MemoryExceeded


# -- ends -----------------------------------------------------------------------------------------------


def test_a_compiler_that_goes_in_the_middle_of_its_answer_has_crashed() -> None:
    whole = bytes(encode(description(TRUE)))
    for cut in (0, 3, 4, 5, len(whole) // 2, len(whole) + 3):

        def speak(peer: Peer, descriptors: Sequence[int], cut: int = cut) -> None:
            peer.socket.sendall((struct.pack("<I", len(whole)) + whole)[:cut])
            peer.socket.shutdown(socket.SHUT_RDWR)

        assert isinstance(refused(COMPONENT, speak), WorkerCrashed | MemoryExceeded)


def test_a_compiler_that_says_nothing_or_trickles_ends_at_its_deadline() -> None:
    def silent(peer: Peer, descriptors: Sequence[int]) -> None:
        peer.recv()

    def trickling(peer: Peer, descriptors: Sequence[int]) -> None:
        peer.socket.sendall(struct.pack("<I", 1 << 20))
        while True:
            peer.socket.sendall(b"n")
            with suppress(BlockingIOError):
                peer.socket.recv(1)  # waits for a moment, or notices the end

    started = time.monotonic()
    for speak in (silent, trickling, answering(RAW["more values than memory is for"][:1000])):
        assert type(refused(COMPONENT, speak, compile_time="0.2s")) is DeadlineExceeded
    assert time.monotonic() - started < 10


def test_descriptors_that_a_compiler_sends_are_not_taken() -> None:
    whole = bytes(encode(description(TRUE)))

    def speak(peer: Peer, descriptors: Sequence[int]) -> None:
        os.pwrite(descriptors[1], CODE, 0)
        with open(os.devnull) as file:
            socket.send_fds(peer.socket, [struct.pack("<I", len(whole)) + whole], [file.fileno()] * 200)

    before = len(os.listdir("/proc/self/fd"))
    component = loaded(COMPONENT, speak)
    assert len(os.listdir("/proc/self/fd")) <= before + MODULES, "the code's alone"
    assert component.world == HERE.load_wat(COMPONENT).world  # type: ignore[union-attr]


# -- code -----------------------------------------------------------------------------------------------


def test_no_code_is_a_breach() -> None:
    breached(MODULE, answering(["done", None, []], code=b""))
    breached(COMPONENT, answering(description(TRUE), code=b""))


LENGTHS: list[Any] = [
    [], [4], [4, 4], [4, 4, 4, 4], [12, 0, 0], [4, 4, 5], [4, 4, 3], [16, -8, 4], [4, 4, 4.0], [4, 7, True],
    [4, 4, "4"], [4, 4, None], [1 << 62, 1 << 62, 4], [[4], 4, 4], {}, None, "444", 12, [1] * 12,
]  # fmt: skip


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_code_of_other_lengths_than_it_has_is_a_breach(lengths: Any) -> None:
    breached(COMPONENT, answering(["done", [TRUE, lengths], []]))


@pytest.mark.parametrize("text", [MODULE, COMPONENT], ids=["a module", "a component"])
def test_a_file_for_code_that_cannot_be_sealed_is_a_breach_and_found_at_once(text: str) -> None:
    import fcntl

    def speak(peer: Peer, descriptors: Sequence[int]) -> None:
        os.pwrite(descriptors[1], CODE, 0)
        fcntl.fcntl(descriptors[1], 1033, 1)  # F_ADD_SEALS, F_SEAL_SEAL
        peer.send(["done", None, []] if text is MODULE else description(TRUE))

    started = time.monotonic()
    breached(text, speak)
    assert time.monotonic() - started < 4


# -- worlds ---------------------------------------------------------------------------------------------


def world(
    types: Sequence[Any] = (),
    resources: Sequence[Any] = (),
    imports: Any = None,
    exports: Any = None,
    imported: Any = 0,
) -> list[Any]:
    return [list(types), list(resources), {} if imports is None else imports, exports or {}, imported]


def one(*types: Any, resources: Sequence[Any] = ()) -> list[Any]:
    """Return a world with a function whose parameter has the last of these types."""
    return world(types, resources, exports={"go": ["f", [["a", len(types) - 1]], None]}, imported=0)


DEEP: list[Any] = [["l", "u8"], *(["o", n] for n in range(100_000))]
DOUBLING: list[Any] = [["t", ["u8"]], *(["t", [n, n]] for n in range(60))]
WRONG: dict[str, list[Any]] = {
    "an unknown primitive": one(["l", "u128"]),
    "an unknown kind": one(["Z", "u8"]),
    "no kind": one([]),
    "a type that is a number": one(5),
    "a type of itself": one(["l", 0]),
    "a type of a later one": one(["l", 1], ["l", "u8"]),
    "a negative number": one(["l", "u8"], ["l", -1]),
    "true for a number": one(["l", "u8"], ["l", True]),
    "a type nested 100 000 deep": one(*DEEP),
    "a type of 2^60 parts": one(*DOUBLING),
    "a handle of no resource": one(["O", 0]),
    "a handle of a resource beyond": one(["B", 7], resources=[["r", 0, ""]]),
    "a handle of a negative resource": one(["O", -1], resources=[["r", 0, ""]]),
    "a record without fields": one(["R", "r", None, []]),
    "a record of one field twice": one(["R", "r", None, [["a", "u8"], ["a", "u8"]]]),
    "a record of fields that Python takes for one": one(["R", "r", None, [["a-b", "u8"], ["A-B", "u8"]]]),
    "a field that is no name": one(["R", "r", None, [["__class__", "u8"]]]),
    "a field with an escape": one(["R", "r", None, [["a\x1b[2J", "u8"]]]),
    "an empty field": one(["R", "r", None, [["", "u8"]]]),
    "a field of code": one(["R", "r", None, [["a=print(1)", "u8"]]]),
    "a surrogate in a name": one(["R", "\ud800", None, [["a", "u8"]]]),
    "a type name that is none": one(["R", "a b", None, [["a", "u8"]]]),
    "an enum without cases": one(["E", "e", None, []]),
    "an enum of one case twice": one(["E", "e", None, ["a", "a"]]),
    "an enum of a case that is no text": one(["E", "e", None, [5]]),
    "a variant without cases": one(["V", "v", None, []]),
    "a variant of one case twice": one(["V", "v", None, [["a", None], ["a", "u8"]]]),
    "flags without flags": one(["F", "f", None, []]),
    "more flags than 32": one(["F", "f", None, [f"f{n}" for n in range(33)]]),
    "an empty tuple": one(["t", []]),
    "something behind a type": one(["l", "u8", "u8"]),
    "a borrow for a result": world([["B", 0]], [["r", 0, ""]], exports={"go": ["f", [], 0]}),
    "one parameter twice": world(exports={"go": ["f", [["a", "u8"], ["a", "u8"]], None]}),
    "a parameter that is no name": world(exports={"go": ["f", [["\n", "u8"]], None]}),
    "a function of too little": world(exports={"go": ["f", []]}),
    "an item of unknown kind": world(exports={"go": ["x", [], None]}),
    "an interface of another name": world(exports={"a:b/c": ["i", "a:b/d", {}, {}]}),
    "a member that is no name": world(exports={"a:b/c": ["i", "a:b/c", {"[method]r": [[], None]}, {}]}),
    "a type member that is no name": world(exports={"a:b/c": ["i", "a:b/c", {}, {"?": "u8"}]}),
    "a resource without name": world(resources=[[5, 0, ""]]),
    "a resource that is no name": world(resources=[["\x1b", 0, ""]]),
    "a resource of another number": world(resources=[["r", 1, ""]]),
    "more imported than there are": world(resources=[["r", 0, ""]], imported=2),
    "imported less than none": world(imported=-1),
    "imported true": world(imported=True),
    "lists for mappings": world(imports=[["a", ["f", [], None]]]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_world_that_cannot_be_is_refused(name: str) -> None:
    started = time.monotonic()
    with pytest.raises(BadWorld):
        world_from_plain(WRONG[name])
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", ["a type nested 100 000 deep", "a type of 2^60 parts", "a handle of no resource"])
def test_a_world_that_cannot_be_is_a_breach(name: str) -> None:
    breached(COMPONENT, answering(description(WRONG[name])))


def test_a_component_that_exports_types_only_is_described_as_such() -> None:
    """An exported function type or instance type is reflected as a type."""
    text = """(component (type $f (func (param "a" u32))) (type $i (instance (export "f" (func))))
      (export "any" (type $f)) (export "other" (type $i)) (import "here" (func)))"""
    found = isolated(isolation={"workers": 0}).load_wat(text)
    assert found.world == HERE.load_wat(text).world  # type: ignore[union-attr]


OTHERS: dict[str, Callable[[list[Any]], Any]] = {
    "one more import": lambda w: w[2].update({"more": ["f", [], None]}),
    "one export less": lambda w: w[3].pop(next(iter(w[3]))),
    "one more export": lambda w: w[3].update({"wasi:cli/run@0.2.0": ["f", [], None]}),
    "a function for an interface": lambda w: w[3].update({key: ["f", [], None] for key in w[3]}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_world_of_other_names_than_the_bytes_have_is_a_breach(name: str) -> None:
    lie = world_to_plain(HERE.load_wat(COMPONENT).world)  # type: ignore[union-attr]
    OTHERS[name](lie)
    breached(COMPONENT, answering(description(lie)))


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 200), PLAIN), min_size=1, max_size=3))
def test_a_mutated_world_can_be_used_or_is_refused(changes: list[tuple[int, Any]]) -> None:
    """An accepted world has a Python class and a text for every type, and can be encoded again."""
    lie = world_to_plain(HERE.load_wat(COMPONENT).world)  # type: ignore[union-attr]
    for at, value in changes:
        spots = list(_spots(lie))
        holder, key = spots[at % len(spots)]
        holder[key] = value
    try:
        found = world_from_plain(lie)
    except BadWorld:
        return
    from aegis.wit.python_types import function_with_python_types
    from aegis.wit.types import Function, show

    for item in [*found.imports.values(), *found.exports.values()]:
        for function in [item] if isinstance(item, Function) else item.functions.values():
            assert show(function_with_python_types(function, {})).isprintable()
    assert world_from_plain(world_to_plain(found)) == found


def _spots(value: Any) -> Any:
    """Yield every position in plain data that holds a value."""
    for key in range(len(value)) if isinstance(value, list) else value:
        yield value, key
        if isinstance(value[key], list | dict):
            yield from _spots(value[key])


# -- afterwards -----------------------------------------------------------------------------------------


def test_a_runtime_outlives_a_lying_compiler() -> None:
    aegis = isolated(isolation={"workers": 0})
    with pytest.raises(WorkerCrashed):
        loaded_by(aegis, MODULE, answering(b"\xff" * 10))
    with aegis.sandbox(aegis.load_wat(MODULE)) as sandbox:
        assert sandbox.call("go") == 7


def test_code_that_a_lying_compiler_made_up_harms_its_own_workers_alone() -> None:
    aegis = isolated(isolation={"workers": 0})
    module = loaded_by(aegis, MODULE, answering(["done", None, []], code=bytes(range(256)) * 16))
    with pytest.raises(AegisError):
        aegis.sandbox(module)


# -- what the embedder's own process makes of it --------------------------------------------------------

TEXTS = echo_component("string")


@pytest.mark.parametrize("lie", ["u64", ["l", "u8"], ["t", ["u8"] * 16], ["V", "v", None, [["a", "u64"]]]], ids=str)
def test_types_that_a_compiler_made_up_are_not_those_of_a_run_in_process(lie: Any) -> None:
    """A worker that runs a component validates it itself: its values have the types in the component's bytes."""
    world: list[Any] = world_to_plain(HERE.load_wat(TEXTS).world)  # type: ignore[union-attr]
    of = lie
    if isinstance(lie, list):
        world[0].append(lie)
        of = len(world[0]) - 1
    for items in (world[2], world[3]):
        for function in items.values():
            function[1:] = [[["x", of]], of]
    aegis = isolated(isolation={"workers": 0})
    component = loaded_by(aegis, TEXTS, answering(description(world, 6, 6)))
    assert component.world != HERE.load_wat(TEXTS).world  # type: ignore[union-attr]
    heard: list[Any] = []

    def echo(value: Any) -> Any:
        heard.append(value)
        return value

    with aegis.sandbox(component, imports={"echo": echo}, isolate=False) as sandbox:
        assert sandbox.call("echo-back", "true to its type") == "true to its type"
    assert heard == ["true to its type"]
