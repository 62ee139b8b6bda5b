"""Wrong streams and futures of the application end in an error that names the mistake, and leave nothing behind.

Oracle: a mistake that is seen before the guest runs is a ``CallError``, and the sandbox stays ready; one that is seen
while the guest reads is a ``HostError`` whose cause is the exception of the application.
"""

from __future__ import annotations

import array
import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from aegis import (
    Aegis,
    CallError,
    DeadlineExceeded,
    FutureWriter,
    GuestTrap,
    HostError,
    Sandbox,
    SandboxStateError,
    StreamWriter,
)
from aegis.wit.types import WitType
from tests.component.aegis_side import RUNTIME
from tests.component.tasks.async_guests import async_echo, copier, script
from tests.component.tasks.copying import leftovers

PACE = (5, 1)


def numbers(of: WitType = "u32", runtime: Aegis = RUNTIME) -> Sandbox:
    return runtime.sandbox(runtime.load_wat(copier(of, imports=False)))


def used_writer(sandbox: Sandbox) -> StreamWriter[int]:
    writer: StreamWriter[int] = StreamWriter()
    writer.close()
    sandbox.call("collect", writer, *PACE, 5)
    return writer


def closed_reader(sandbox: Sandbox) -> Any:
    reader = sandbox.call("feed", [1], *PACE)
    reader.close()
    return reader


async def _generator() -> Any:
    yield 1


UNFIT: dict[str, tuple[str, Any, str]] = {
    "a number": ("collect", lambda s: 5, "expected an iterable for the stream, not int"),
    "None": ("collect", lambda s: None, "not NoneType"),
    "a text": ("collect", lambda s: "abc", "not str"),
    "bytes for numbers": ("collect", lambda s: b"abc", "not bytes"),
    "a writer that was used": ("collect", used_writer, "given to a guest already"),
    "a reader that was closed": ("collect", closed_reader, "passed on already, or closed"),
    "a future for a stream": ("collect", lambda s: s.call("promise", [1]), "not FutureReader"),
    "a stream for a future": ("keep", lambda s: s.call("feed", [1], *PACE), "expected a future, not StreamReader"),
    "an asynchronous generator in a synchronous call": ("collect", lambda s: _generator(), "called synchronously"),
    "an awaitable in a synchronous call": ("keep", lambda s: asyncio.sleep(0, 5), "called synchronously"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", UNFIT)
def test_a_value_that_is_no_stream_is_refused_before_the_guest_runs(mistake: str) -> None:
    name, make, message = UNFIT[mistake]
    rest = (*PACE, 10) if name == "collect" else ()
    with numbers() as sandbox:
        for _ in range(3):
            with pytest.raises(CallError, match=message):
                sandbox.call(name, make(sandbox), *rest)
            assert sandbox.state == "ready"
            assert sandbox.call("collect", [1, 2], *PACE, 10) == [1, 2]
        gc.collect()
        for _ in range(5):
            sandbox.call("collect", [1, 2], *PACE, 10)
        assert leftovers(sandbox)["ends"] == 0


_TWO = """
    (func (export "two") (param i32 i32 i32) (result i32) (call $return (local.get 2)) (i32.const 0))"""
_TWO_TYPE = {"two": '(param "a" $S) (param "b" $S) (param "n" u32) (result u32)'}


def _passed_twice(sandbox: Sandbox) -> list[tuple[Any, ...]]:
    writer: StreamWriter[int] = StreamWriter()
    return [(writer, writer, 1), (b"a", 5, 1), (StreamWriter(), b"b", "x"), (5, b"a", 1)]


def test_one_stream_for_two_parameters_is_refused_and_takes_none() -> None:
    with RUNTIME.sandbox(RUNTIME.load_wat(script(_TWO, _TWO_TYPE))) as sandbox:
        for arguments in _passed_twice(sandbox):
            with pytest.raises(CallError):
                sandbox.call("two", *arguments)
            assert leftovers(sandbox) == dict.fromkeys(leftovers(sandbox), 0)
        assert sandbox.call("two", b"a", b"b", 7) == 7


def test_one_stream_for_two_parameters_is_refused_in_a_call_of_a_loop_which_harms_no_other() -> None:
    async def main(sandbox: Sandbox) -> None:
        for arguments in _passed_twice(sandbox):
            good = asyncio.create_task(sandbox.acall("two", b"a", b"b", 7))
            with pytest.raises(CallError):
                await sandbox.acall("two", *arguments)
            assert await good == 7

    with RUNTIME.sandbox(RUNTIME.load_wat(script(_TWO, _TWO_TYPE))) as sandbox:
        asyncio.run(main(sandbox))
        assert sandbox.state == "ready"


def test_a_writer_beside_a_value_that_needs_conversion_is_given_once() -> None:
    """Values that have to be made fit, here an integer of another class, do not take the stream twice."""

    class Number:
        def __index__(self) -> int:
            return 7

    with RUNTIME.sandbox(RUNTIME.load_wat(script(_TWO, _TWO_TYPE))) as sandbox:
        assert sandbox.call("two", StreamWriter(), iter([b"x"]), Number()) == 7


def _raising() -> Iterator[int]:
    yield 1
    raise ValueError("no more")


async def _raising_later(error: BaseException) -> Any:
    yield 1
    raise error


ELEMENTS: list[tuple[WitType, Any, str]] = [
    ("u32", [1, 2, "x"], "element 2: expected an integer for u32, not str"),
    ("u32", [1.0], "element 0: expected an integer for u32, not float"),
    ("u32", [*range(70000), -1], "element 70000: -1 is out of range for u32"),
    ("u32", [None], "element 0"),
    ("string", ["a", 5], "element 1: expected text"),
    ("string", ["\ud800"], "lone surrogate"),
    ("u8", [1, 2], "expected bytes for stream<u8>, not int"),
    ("u8", ["a"], "expected bytes for stream<u8>, not str"),
    ("u8", array.array("I", [1]), "not int"),
]


@pytest.mark.parametrize("n", range(len(ELEMENTS)), ids=lambda n: ELEMENTS[n][2])
def test_a_wrong_element_is_named_by_its_position(n: int) -> None:
    of, values, message = ELEMENTS[n]
    with numbers(of) as sandbox:
        with pytest.raises(HostError, match=message):
            sandbox.call("collect", values, 100_000, 1, 100_000)
        assert sandbox.state == "poisoned"


@pytest.mark.parametrize("kind", ["collect", "relay", "same"])
def test_an_iterator_that_raises_is_the_cause_of_the_error(kind: str) -> None:
    def read(sandbox: Sandbox) -> Any:
        if kind == "collect":
            return sandbox.call("collect", _raising(), *PACE, 10)
        return list(sandbox.call(kind, _raising(), *(PACE if kind == "relay" else ())))

    with numbers() as sandbox, pytest.raises(HostError, match="raised ValueError: no more") as caught:
        read(sandbox)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    "error", [ValueError("no"), BrokenPipeError("no"), asyncio.CancelledError("no"), RuntimeError("no")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_asynchronous_iterator_that_raises_is_the_cause_of_the_error(error: BaseException) -> None:
    async def main(sandbox: Sandbox) -> None:
        with pytest.raises(HostError, match=f"raised {type(error).__name__}: no") as caught:
            await sandbox.acall("collect", _raising_later(error), *PACE, 10)
        assert caught.value.__cause__ is error

    with numbers() as sandbox:
        asyncio.run(main(sandbox))


ENDS = [ValueError("no"), asyncio.CancelledError("no"), SystemExit(3), KeyboardInterrupt("no")]


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("lower", ["async", "sync"])
def test_an_asynchronous_host_function_that_raises_is_the_cause_of_the_error(error: BaseException, lower: str) -> None:
    async def echo(x: int) -> int:
        await asyncio.sleep(0)
        raise error

    async def main(sandbox: Sandbox) -> None:
        with pytest.raises(HostError, match=f"host function echo raised {type(error).__name__}") as caught:
            await sandbox.acall("through", 5)
        assert type(caught.value.__cause__) is type(error)

    text = async_echo("u32", encoding="utf8", lower=lower)
    with RUNTIME.sandbox(RUNTIME.load_wat(text), imports={"echo": echo}) as sandbox:
        asyncio.run(main(sandbox))
        assert sandbox.state == "poisoned"


def test_a_future_that_raises_is_the_cause_of_the_error() -> None:
    async def fails() -> int:
        raise ValueError("no")

    async def main(sandbox: Sandbox) -> None:
        with pytest.raises(HostError, match="a future of the host raised ValueError: no"):
            await sandbox.acall("keep", fails())

    with numbers() as sandbox:
        asyncio.run(main(sandbox))


def test_a_future_with_a_wrong_value_is_named() -> None:
    with numbers() as sandbox, pytest.raises(HostError, match="wrong value: the value: expected an integer for u32"):
        sandbox.call("keep", "x")


def test_a_generator_is_closed_when_the_guest_or_the_sandbox_drops_it() -> None:
    ended: list[str] = []

    def generate(name: str) -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            ended.append(name)

    with numbers() as sandbox:
        assert sandbox.call("collect", generate("guest"), 5, 1, 3) == [0, 1, 2]
        assert ended == ["guest"]
        reader = sandbox.call("same", generate("reader"))
        assert next(reader) == 0
        reader.close()
        sandbox.call("collect", [], *PACE, 1)
        assert ended == ["guest", "reader"]
        kept = sandbox.call("same", generate("sandbox"))
        assert next(kept) == 0
    assert ended == ["guest", "reader", "sandbox"]


def test_a_generator_that_raises_as_it_is_closed_does_not_prevent_the_end_of_the_sandbox() -> None:
    def generate() -> Iterator[int]:
        try:
            yield from range(100_000)
        finally:
            raise RuntimeError("no")

    sandbox = numbers()
    with pytest.raises(HostError, match="a stream of the host raised RuntimeError: no"):
        sandbox.call("collect", generate(), 5, 1, 1)
    sandbox.reset()
    reader = sandbox.call("same", generate())
    assert next(reader) == 0
    sandbox.close()
    assert sandbox.state == "closed"


# -- writers --------------------------------------------------------------------------------------


def test_a_writer_is_closed_once_and_writes_no_more() -> None:
    writer: StreamWriter[int] = StreamWriter()
    writer.write([1])
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write([2])
    with numbers() as sandbox:
        assert sandbox.call("collect", writer, *PACE, 10) == [1]


def test_a_writer_that_is_never_closed_meets_the_deadline() -> None:
    runtime = Aegis(cache=False, pooled=False, timeout="0.2s")
    with numbers(runtime=runtime) as sandbox:
        with pytest.raises(DeadlineExceeded):
            sandbox.call("collect", StreamWriter(), *PACE, 10)
        sandbox.reset()
        with pytest.raises(DeadlineExceeded):
            sandbox.call("keep", FutureWriter())
        sandbox.reset()
        reader = sandbox.call("same", StreamWriter())
        with pytest.raises(DeadlineExceeded):
            reader.read()
        assert sandbox.state == "poisoned"


@pytest.mark.parametrize("end", ["close", "reset"])
def test_writers_that_wait_are_woken_by_the_end_of_the_sandbox(end: str) -> None:
    writer: StreamWriter[int] = StreamWriter(limit=2)
    raised: list[BaseException] = []

    def write() -> None:
        try:
            while True:
                writer.write([1])
        except BrokenPipeError as error:
            raised.append(error)

    sandbox = numbers()
    reader = sandbox.call("same", writer)
    thread = threading.Thread(target=write)
    thread.start()
    assert next(reader) == 1
    getattr(sandbox, end)()
    thread.join(10)
    assert not thread.is_alive()
    assert len(raised) == 1
    assert writer.reader_dropped
    sandbox.close()


def test_two_threads_write_one_stream() -> None:
    writer: StreamWriter[int] = StreamWriter(limit=5)

    def write(base: int) -> None:
        for n in range(200):
            writer.write([base + n])

    threads = [threading.Thread(target=write, args=(base,)) for base in (0, 1000)]
    closing = threading.Thread(target=lambda: ([one.join() for one in threads], writer.close()))
    for thread in (*threads, closing):
        thread.start()
    with numbers() as sandbox:
        found = sandbox.call("collect", writer, 50, 1, 1000)
    assert [n for n in found if n < 1000] == list(range(200))
    assert [n for n in found if n >= 1000] == list(range(1000, 1200))


# -- readers --------------------------------------------------------------------------------------


def test_a_reader_of_a_closed_sandbox_says_so() -> None:
    sandbox = numbers()
    reader, future = sandbox.call("feed", [1, 2, 3], *PACE), sandbox.call("promise", [1])
    sandbox.close()
    for read in (reader.read, reader.__next__, future.result):
        with pytest.raises(SandboxStateError, match="closed or replaced"):
            read()

    async def main() -> None:
        for read in (reader.aread(), reader.__anext__()):
            with pytest.raises(SandboxStateError, match="closed or replaced"):
                await read
        with pytest.raises(SandboxStateError, match="closed or replaced"):
            await future

    asyncio.run(main())
    reader.close()
    reader.close()


def test_a_reader_from_before_a_reset_does_not_read_the_new_guest() -> None:
    with numbers() as sandbox:
        reader = sandbox.call("feed", [1, 2, 3], *PACE)
        sandbox.reset()
        assert sandbox.call("collect", [5], *PACE, 10) == [5]
        with pytest.raises(SandboxStateError):
            reader.read()
        with pytest.raises(SandboxStateError):
            sandbox.call("collect", reader, *PACE, 10)


def test_a_reader_does_not_keep_its_sandbox() -> None:
    sandbox = numbers()
    reader = sandbox.call("feed", [1, 2, 3], *PACE)
    seen = weakref.ref(sandbox)
    del sandbox
    gc.collect()
    assert seen() is None
    with pytest.raises(SandboxStateError):
        reader.read()


@pytest.mark.parametrize("looped", [False, True])
def test_readers_that_are_collected_unread_leave_nothing(looped: bool) -> None:
    async def main(sandbox: Sandbox) -> None:
        for _ in range(20):
            await sandbox.acall("feed", [1, 2, 3], *PACE)
            await sandbox.acall("collect", [1], *PACE, 10)

    with numbers() as sandbox:
        if looped:
            asyncio.run(main(sandbox))
        for _ in range(20):
            sandbox.call("feed", [1, 2, 3], *PACE)
            sandbox.call("same", [1, 2, 3])
            sandbox.call("same-future", 1)
            sandbox.call("collect", [1], *PACE, 10)
        sandbox.call("collect", [1], *PACE, 10)
        assert not any(leftovers(sandbox).values())


def test_background_tasks_of_synchronous_calls_do_not_add_up() -> None:
    """A task that has given its result goes on when the guest runs next, also if that call needs no wait."""
    runtime = Aegis(cache=False, pooled=False, timeout="60s", tasks=10, handles=30)
    with numbers(runtime=runtime) as sandbox:
        for n in range(200):
            assert sandbox.call("promise", [n]).result() == n
            assert list(sandbox.call("feed", [n], *PACE)) == [n]


def test_threads_that_read_one_stream_take_turns() -> None:
    with numbers() as sandbox:
        reader = sandbox.call("feed", list(range(3000)), 10, 1)
        found: list[int] = []
        odd: list[BaseException] = []

        def read() -> None:
            while True:
                try:
                    piece = reader.read(5)
                except SandboxStateError:
                    continue  # busy: the other thread reads
                except BaseException as error:
                    odd.append(error)
                    return
                if not piece:
                    return
                found.extend(piece)

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not odd
        assert sorted(found) == list(range(3000))


def test_two_tasks_that_read_one_stream_are_refused() -> None:
    async def main(sandbox: Sandbox) -> None:
        writer: StreamWriter[int] = StreamWriter()
        reader = await sandbox.acall("relay", writer, *PACE)
        first = asyncio.create_task(reader.aread())
        await asyncio.sleep(0)
        with pytest.raises(CallError, match="one task at a time"):
            await reader.aread()
        with pytest.raises(CallError, match="one task at a time"):
            await sandbox.acall("same", reader)
        await writer.awrite([5])
        assert await first == [5]
        last = asyncio.create_task(reader.aread())
        await asyncio.sleep(0)
        reader.close()
        assert await last == []
        writer.close()

    with numbers() as sandbox:
        asyncio.run(main(sandbox))
        assert sandbox.state == "ready"


def test_a_reader_is_passed_on_once() -> None:
    with numbers() as sandbox, numbers() as other:
        reader = sandbox.call("feed", [1, 2, 3], *PACE)
        again = sandbox.call("same", reader)
        with pytest.raises(CallError, match="passed on already"):
            reader.read()
        with pytest.raises(CallError, match="passed on already"):
            other.call("collect", reader, *PACE, 10)
        assert other.call("collect", again, *PACE, 10) == [1, 2, 3]


@pytest.mark.parametrize("looped", [False, True])
def test_a_plain_host_function_reads_what_its_caller_writes_meanwhile(looped: bool) -> None:
    """Oracle: it gets every element in order; on the thread that runs the guest, it would wait for ever."""
    got: list[int] = []
    ended = threading.Event()
    elements = list(range(3000))

    def sink(stream: Any, room: int, seed: int) -> int:
        while len(got) < len(elements):
            got.extend(stream.read())
        ended.set()
        return len(got)

    imports = {"source": lambda room, seed: [1], "sink": sink}
    with RUNTIME.sandbox(RUNTIME.load_wat(copier("u32", waits=False)), imports=imports) as sandbox:

        def call(*args: Any) -> Any:
            return asyncio.run(sandbox.acall(*args)) if looped else sandbox.call(*args)

        assert call("pour", elements, *PACE) == 3000
        assert ended.wait(30)
        assert call("gather", *PACE, 5) == [1]
    assert got == elements


def test_a_host_function_that_reads_what_its_caller_writes_later_is_a_deadlock() -> None:
    """Oracle: the guest, which waits for the function before it writes, traps at once; the function's read raises."""
    ended = threading.Event()
    errors: list[BaseException] = []

    def sink(stream: Any, room: int, seed: int) -> int:
        try:
            return len(stream.read())
        except BaseException as error:
            errors.append(error)
            raise
        finally:
            ended.set()

    imports = {"source": lambda room, seed: [1], "sink": sink}
    with RUNTIME.sandbox(RUNTIME.load_wat(copier("u32")), imports=imports) as sandbox:
        with pytest.raises(GuestTrap, match="deadlock"):
            sandbox.call("pour", [1, 2, 3], *PACE)
        assert ended.wait(30)
        assert isinstance(errors[0], SandboxStateError)
        sandbox.reset()
        assert sandbox.call("gather", *PACE, 5) == [1]


def test_a_host_function_gives_the_stream_of_another_sandbox() -> None:
    with numbers() as other:
        imports = {"source": lambda room, seed: other.call("feed", [1, 2, 3], *PACE), "sink": lambda *_: 1}
        with RUNTIME.sandbox(RUNTIME.load_wat(copier("u32")), imports=imports) as sandbox:
            assert sandbox.call("gather", *PACE, 5) == [1, 2, 3]


def test_the_signature_in_a_message_is_that_of_the_function() -> None:
    with numbers() as sandbox, pytest.raises(CallError, match=r"^collect\(s: stream<u32>, room"):
        sandbox.call("collect", [1])
