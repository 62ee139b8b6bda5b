"""Code of an embedder with streams and futures that both type checkers must accept: def, async def, and both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from aegis import (
    ByteStreamReader,
    Component,
    FutureReader,
    FutureWriter,
    Ok,
    Sandbox,
    StreamReader,
    StreamWriter,
)
from aegis.wit.streams import FutureSource, StreamSource
from aegis.wit.values import Err
from tests.bindgen.golden.streams import AsyncPlugin, Plugin, imports
from tests.bindgen.golden.streams.acme_media_codec import Failure, Frame, Host
from tests.bindgen.golden.streams.acme_media_codec import Player as AnyPlayer


class MyPlayer:
    def __init__(self, source: ByteStreamReader) -> None:
        self.source = source

    async def play(self, speed: float) -> int:
        total = 0
        async for piece in self.source:
            total += len(piece)
        if not total:
            raise Err(Failure.CLOSED)
        return total

    def frames(self) -> tuple[list[Frame], Ok[None]]:
        return [Frame(b"", b"rest")], Ok(None)

    @staticmethod
    async def open(name: str) -> AnyPlayer:
        raise NotImplementedError(name)


class Codec(Host):
    Player = MyPlayer

    async def settle(self) -> None: ...

    async def decode(self, source: ByteStreamReader) -> AsyncIterator[list[str]]:
        async def lines() -> AsyncIterator[list[str]]:
            async for piece in source:
                yield piece.decode().split()

        return lines()

    def ticks(self, count: int | None) -> Iterator[None]:
        return iter([None] * (count or 0))

    async def done(self, when: FutureReader[None]) -> bytes:
        await when
        return b"done"

    def pick(
        self, choices: list[FutureReader[str]], other: StreamReader[AnyPlayer] | None
    ) -> FutureSource[Ok[None] | Err[Failure]]:
        for choice in choices:
            choice.result().upper()
        writer: FutureWriter[Ok[None] | Err[Failure]] = FutureWriter()
        return writer


class Log:
    async def log(self, lines: StreamReader[str]) -> None:
        async for line in lines:
            line.upper()


def sandbox(component: Component, made: Sandbox) -> bytes:
    given = imports(codec=Codec(), functions=Log())
    assert given
    plugin = Plugin(made)
    with open("in", "rb") as file:
        found = b"".join(plugin.run(file))
    for frame in plugin.codec.Player([b"a", b"b"]).frames()[0]:
        found += frame.data
    texts: list[list[str]] = plugin.codec.decode(b"text").read(10)
    return found + texts[0][0].encode()


async def overlapping(made: Sandbox) -> list[list[str]]:
    plugin = AsyncPlugin(made)
    writer: StreamWriter[int] = StreamWriter(limit=10)
    await writer.awrite(b"bytes are integers")
    output = await plugin.run(writer)
    pieces: list[bytes] = [piece async for piece in output]
    source: StreamSource[str] = ["a"]
    assert source
    assert pieces
    return [words async for words in await plugin.codec.decode(output)]
