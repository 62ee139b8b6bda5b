"""Asynchronous functions with streams and futures, in both directions."""

import asyncio

import componentize_py_async_support as support
import wit_world
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.filters import Point
from wit_world.imports import origin

PIECE = 65536
_values = []
_waiting = []


class Filters(exports.Filters):
    async def double(self, numbers):
        return _mapped(wit_world.u32_stream, numbers, lambda piece: [2 * n & 0xFFFFFFFF for n in piece])

    async def upper(self, data):
        return _mapped(wit_world.byte_stream, data, bytes.upper, PIECE)

    async def sum(self, numbers):
        return await _sum(numbers)

    async def rename(self, points):
        return _mapped(wit_world.filters_point_stream, points, lambda all: [Point(p.x, p.name * 2) for p in all])

    async def fetch_all(self, names):
        return list(await asyncio.gather(*map(origin.fetch, names)))

    async def sum_of(self, count):
        return await _sum(await origin.numbers(count))

    async def save(self, count, size):
        writer, reader = wit_world.byte_stream()
        taken = asyncio.create_task(origin.save(reader))
        with writer:
            for n in range(count):
                await writer.write_all(bytes([n % 256]) * size)
        return await taken

    async def twice(self, value):
        return 2 * await value.read()

    async def later(self, value):
        writer, reader = wit_world.string_future(lambda: "")

        async def write():
            await writer.write(value)

        support.spawn(write())
        return reader

    async def get(self):
        if _values:
            return _values.pop(0)
        writer, reader = wit_world.u32_stream()
        _waiting.append(writer)
        with reader:
            return (await reader.read(1))[0]

    async def put(self, value):
        if not _waiting:
            _values.append(value)
            return
        with _waiting.pop(0) as writer:
            await writer.write_all([value])

    async def count_up(self):
        return _generated(_forever())

    async def broken(self, count):
        return _generated([*range(count), None])

    async def divide(self, a, b):
        if b == 0:
            raise Err("division by zero")
        return a // b


def _forever():
    n = 0
    while True:
        yield n
        n = n + 1 & 0xFFFFFFFF


async def _sum(numbers):
    total = 0
    with numbers:
        while not numbers.writer_dropped:
            total += sum(await numbers.read(1000))
    return total


def _mapped(make, source, change, count=1000):
    """Return a stream of the changed pieces of another, which a task of its own writes."""
    writer, reader = make()

    async def run():
        with source, writer:
            while not source.writer_dropped:
                piece = await source.read(count)
                if piece and await writer.write_all(change(piece)) == 0:
                    return

    support.spawn(run())
    return reader


def _generated(numbers):
    writer, reader = wit_world.u32_stream()

    async def run():
        with writer:
            for n in numbers:
                if n is None:
                    raise RuntimeError("no more numbers")
                await writer.write_all([n])
                if writer.reader_dropped:
                    return

    support.spawn(run())
    return reader
