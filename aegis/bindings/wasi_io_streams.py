# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:io/streams@0.2.12``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aegis.bindings.wasi_io_error import ERROR, Error
from aegis.bindings.wasi_io_poll import POLLABLE, Pollable
from aegis.wit.types import Borrow, Function, Interface, List, Own, Resource, Result, Variant
from aegis.wit.values import Err

__all__ = [
    "ERROR",
    "INPUT_STREAM",
    "INTERFACE",
    "OUTPUT_STREAM",
    "POLLABLE",
    "STREAM_ERROR",
    "Error",
    "Host",
    "InputStream",
    "OutputStream",
    "Pollable",
    "StreamError",
    "StreamErrorClosed",
    "StreamErrorLastOperationFailed",
]


@dataclass(frozen=True, slots=True)
class StreamErrorLastOperationFailed:
    """``last-operation-failed`` of ``stream-error``."""

    value: Error


@dataclass(frozen=True, slots=True)
class StreamErrorClosed:
    """``closed`` of ``stream-error``."""


StreamError: TypeAlias = StreamErrorLastOperationFailed | StreamErrorClosed


class InputStream(Protocol):
    """The resource ``input-stream``."""

    def read(self, len: int) -> bytes | Err[StreamError]: ...

    def blocking_read(self, len: int) -> bytes | Err[StreamError]: ...

    def skip(self, len: int) -> int | Err[StreamError]: ...

    def blocking_skip(self, len: int) -> int | Err[StreamError]: ...

    def subscribe(self) -> Pollable: ...


class OutputStream(Protocol):
    """The resource ``output-stream``."""

    def check_write(self) -> int | Err[StreamError]: ...

    def write(self, contents: bytes) -> Err[StreamError] | None: ...

    def blocking_write_and_flush(self, contents: bytes) -> Err[StreamError] | None: ...

    def flush(self) -> Err[StreamError] | None: ...

    def blocking_flush(self) -> Err[StreamError] | None: ...

    def subscribe(self) -> Pollable: ...

    def write_zeroes(self, len: int) -> Err[StreamError] | None: ...

    def blocking_write_zeroes_and_flush(self, len: int) -> Err[StreamError] | None: ...

    def splice(self, src: InputStream, len: int) -> int | Err[StreamError]: ...

    def blocking_splice(self, src: InputStream, len: int) -> int | Err[StreamError]: ...


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""


_NAME = "wasi:io/streams@0.2.12"

STREAM_ERROR = Variant(
    "stream-error",
    (("last-operation-failed", Own(ERROR)), ("closed", None)),
    python=(StreamErrorLastOperationFailed, StreamErrorClosed),
    owner=_NAME,
)
INPUT_STREAM = Resource("input-stream", python=InputStream, owner=_NAME)
OUTPUT_STREAM = Resource("output-stream", python=OutputStream, owner=_NAME)

INTERFACE = Interface(
    _NAME,
    functions={
        "[method]input-stream.read": Function(
            (("self", Borrow(INPUT_STREAM)), ("len", "u64")),
            Result(List("u8"), STREAM_ERROR),
        ),
        "[method]input-stream.blocking-read": Function(
            (("self", Borrow(INPUT_STREAM)), ("len", "u64")),
            Result(List("u8"), STREAM_ERROR),
        ),
        "[method]input-stream.skip": Function(
            (("self", Borrow(INPUT_STREAM)), ("len", "u64")),
            Result("u64", STREAM_ERROR),
        ),
        "[method]input-stream.blocking-skip": Function(
            (("self", Borrow(INPUT_STREAM)), ("len", "u64")),
            Result("u64", STREAM_ERROR),
        ),
        "[method]input-stream.subscribe": Function((("self", Borrow(INPUT_STREAM)),), Own(POLLABLE)),
        "[method]output-stream.check-write": Function((("self", Borrow(OUTPUT_STREAM)),), Result("u64", STREAM_ERROR)),
        "[method]output-stream.write": Function(
            (("self", Borrow(OUTPUT_STREAM)), ("contents", List("u8"))),
            Result(None, STREAM_ERROR),
        ),
        "[method]output-stream.blocking-write-and-flush": Function(
            (("self", Borrow(OUTPUT_STREAM)), ("contents", List("u8"))),
            Result(None, STREAM_ERROR),
        ),
        "[method]output-stream.flush": Function((("self", Borrow(OUTPUT_STREAM)),), Result(None, STREAM_ERROR)),
        "[method]output-stream.blocking-flush": Function(
            (("self", Borrow(OUTPUT_STREAM)),),
            Result(None, STREAM_ERROR),
        ),
        "[method]output-stream.subscribe": Function((("self", Borrow(OUTPUT_STREAM)),), Own(POLLABLE)),
        "[method]output-stream.write-zeroes": Function(
            (("self", Borrow(OUTPUT_STREAM)), ("len", "u64")),
            Result(None, STREAM_ERROR),
        ),
        "[method]output-stream.blocking-write-zeroes-and-flush": Function(
            (("self", Borrow(OUTPUT_STREAM)), ("len", "u64")),
            Result(None, STREAM_ERROR),
        ),
        "[method]output-stream.splice": Function(
            (("self", Borrow(OUTPUT_STREAM)), ("src", Borrow(INPUT_STREAM)), ("len", "u64")),
            Result("u64", STREAM_ERROR),
        ),
        "[method]output-stream.blocking-splice": Function(
            (("self", Borrow(OUTPUT_STREAM)), ("src", Borrow(INPUT_STREAM)), ("len", "u64")),
            Result("u64", STREAM_ERROR),
        ),
    },
    types={
        "error": ERROR,
        "pollable": POLLABLE,
        "stream-error": STREAM_ERROR,
        "input-stream": INPUT_STREAM,
        "output-stream": OUTPUT_STREAM,
    },
)
