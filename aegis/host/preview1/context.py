"""The state that all parts of preview 1 share: the guest's memory, its descriptors and its grants."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from aegis.host.grants import Grants
from aegis.host.preview1 import abi
from aegis.host.preview1.abi import ALL_RIGHTS, DIRECTORY_RIGHTS, MAX_VECTOR_ITEMS, TWO_U32, U32, U64, Errno, Refused
from aegis.host.preview1.table import STREAM_READ, STREAM_WRITE, DirectoryDescriptor, StreamDescriptor, Table
from aegis.limits import Limits
from aegis.values import CallScope, GuestMemory

__all__ = ["Preview1Context"]

_MAX_PATH_BYTES = 4096
_CHUNK_BYTES = 1 << 20


class Preview1Context:
    """Preview 1 for one guest. The parts derive from it and add functions."""

    def __init__(self, grants: Grants, memory: GuestMemory, scope: CallScope, limits: Limits) -> None:
        self.grants = grants
        self.memory = memory
        self.scope = scope
        self.limits = limits
        self.chunk = min(_CHUNK_BYTES, limits.value_bytes or _CHUNK_BYTES)
        """Bytes that the host copies from or to the guest's memory at once."""
        self._table: Table | None = None

    @property
    def table(self) -> Table:
        """The descriptors. The grants are acquired when a call first uses a descriptor."""
        table = self._table
        if table is None:
            table = self._table = self._open_table()
        return table

    def _open_table(self) -> Table:
        stdio = self.grants.stdio
        table = Table(
            self.limits.open_files, StreamDescriptor(stdio.stdin, STREAM_READ),
            StreamDescriptor(stdio.stdout, STREAM_WRITE), StreamDescriptor(stdio.stderr, STREAM_WRITE),
        )  # fmt: skip
        preopens = self.grants.preopens
        if preopens:  # without one the guest opens nothing that would have to be closed
            for preopen in preopens:
                label, name = preopen.guest, preopen.guest.encode()
                table.preset(DirectoryDescriptor(preopen.directory, DIRECTORY_RIGHTS, ALL_RIGHTS, label, name))
            self.grants.on_close(table.close_all)
        return table

    def filestat(self, status: os.stat_result) -> bytes:
        """Return the ``filestat`` of a status, with this guest's inode number and times."""
        return abi.filestat(status, self.grants.numbers.of(status), self.grants.times.shown(status))

    # -- memory --------------------------------------------------------------------------------

    def put_u32(self, offset: int, value: int) -> None:
        self.memory.write(offset, U32.pack(value & 0xFFFF_FFFF))

    def put_u64(self, offset: int, value: int) -> None:
        self.memory.write(offset, U64.pack(value & 0xFFFF_FFFF_FFFF_FFFF))

    def vectors(self, offset: int, count: int) -> list[tuple[int, int]]:
        """Return the (address, length) pairs of a vectored call."""
        if count == 1:
            return [TWO_U32.unpack(self.memory.read(offset, 8))]
        if count > MAX_VECTOR_ITEMS:
            raise Refused(Errno.INVAL)
        return list(TWO_U32.iter_unpack(self.memory.read(offset, 8 * count)))

    def gather(self, offset: int, count: int, most: int | None = None) -> tuple[int, Iterable[bytes]]:
        """Return the size of a vectored write, ``most`` bytes at the most, and its bytes in chunks.

        The host never holds more than one chunk, however much the guest writes at once.
        """
        pairs = self.vectors(offset, count)
        chunk = self.chunk if most is None else min(self.chunk, most)
        if count == 1:
            address, length = pairs[0]
            if length <= chunk:
                return length, (self.memory.read(address, length),)
        memory = self.memory.size()
        total = self.room(pairs, memory)
        if total <= chunk and total <= memory:
            read = self.memory.read
            return total, (b"".join([read(address, length) for address, length in pairs]),)
        # Up to 1024 buffers may overlap, and have far more bytes than the memory together. At most the size of the
        # memory is written; the result says how much.
        size = min(total, memory, total if most is None else most)
        return size, self._chunks(pairs, size)

    def _chunks(self, pairs: list[tuple[int, int]], left: int) -> Iterator[bytes]:
        """Yield the first ``left`` bytes of the buffers, joining short ones and dividing long ones."""
        parts: list[bytes] = []
        room = self.chunk
        for address, length in pairs:
            end = address + min(length, left)
            left -= end - address
            while address < end:
                parts.append(self.memory.read(address, min(end - address, room)))
                address += len(parts[-1])
                room -= len(parts[-1])
                if not room:
                    yield b"".join(parts)
                    parts, room = [], self.chunk
        yield b"".join(parts)

    def scatter(self, pairs: list[tuple[int, int]], data: bytes) -> None:
        """Write ``data`` into the buffers of a vectored read, in order."""
        at = 0
        for address, length in pairs:
            if at >= len(data):
                break
            self.memory.write(address, data[at : at + length])
            at += length

    def room(self, pairs: list[tuple[int, int]], memory: int | None = None) -> int:
        """Return the size of all buffers of a vectored call together; they must be in bounds of ``memory`` bytes."""
        size = self.memory.size() if memory is None else memory
        total = 0
        for address, length in pairs:
            total += length
            if address + length > size or total > 0xFFFF_FFFF:
                raise Refused(Errno.FAULT if address + length > size else Errno.INVAL)
        return total

    def path(self, offset: int, length: int) -> str:
        """Return a path from the guest's memory: UTF-8, without NUL, no longer than a host accepts."""
        if length > _MAX_PATH_BYTES:
            self.memory.read(offset, 0)
            raise Refused(Errno.NAMETOOLONG)
        try:
            path = self.memory.read(offset, length).decode()
        except UnicodeDecodeError:
            raise Refused(Errno.ILSEQ) from None
        if "\0" in path:
            raise Refused(Errno.INVAL)
        return path
