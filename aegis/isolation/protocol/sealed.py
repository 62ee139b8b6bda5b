"""Files in memory that cannot be changed: how code goes to workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from aegis.isolation.protocol.channel import SEAL_ALL, seal

__all__ = ["SealedFile", "new_file", "sealed_copy"]


class SealedFile:
    """A sealed file, or one of the cache's, open for reading; it is closed with the last reference."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def size(self) -> int:
        """Return its length."""
        return os.fstat(self.descriptor).st_size

    def read(self) -> bytes:
        """Return its content."""
        return os.pread(self.descriptor, self.size(), 0)

    def split(self, lengths: Sequence[int]) -> list[SealedFile]:
        """Return a sealed file for each part of a sealed one that consists of parts of these lengths."""
        if len(lengths) == 1:
            return [self]
        parts, at = [], 0
        for length in lengths:
            part, end = SealedFile(new_file()), at + length
            while at < end:
                at += os.sendfile(part.descriptor, self.descriptor, at, end - at)
            seal(part.descriptor, SEAL_ALL)
            parts.append(part)
        return parts

    def close(self, close: Callable[[int], None] = os.close) -> None:
        """Close it; a second time does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            close(descriptor)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # at exit the module may be gone
        self.close(close)


def new_file() -> int:
    """Return a descriptor of an empty file in memory that can be sealed."""
    return os.memfd_create("aegis-code", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def sealed_copy(data: bytes | memoryview) -> SealedFile:
    """Return a sealed file that holds ``data``."""
    made = SealedFile(new_file())
    with os.fdopen(os.dup(made.descriptor), "wb") as file:
        file.write(data)
    seal(made.descriptor, SEAL_ALL)
    return made
