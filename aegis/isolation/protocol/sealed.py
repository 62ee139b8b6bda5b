"""Sealed memfds, in which the parent passes code to workers: no process can change them (memfd_create(2))."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from aegis.isolation.protocol.channel import SEAL_ALL, seal

__all__ = ["SealedFile", "new_file", "sealed_copy"]


class SealedFile:
    """An open sealed memfd or cache file. The object owns the descriptor and closes it when it is deleted."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def size(self) -> int:
        """Return the size of the file in bytes."""
        return os.fstat(self.descriptor).st_size

    def read(self) -> bytes:
        """Return the content of the file."""
        return os.pread(self.descriptor, self.size(), 0)

    def split(self, lengths: Sequence[int]) -> list[SealedFile]:
        """Copy consecutive parts of these lengths to sealed files and return them; one part is the file itself."""
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
        """Close the descriptor; do nothing if it is already closed."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            close(descriptor)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # at exit, module globals may already be None
        self.close(close)


def new_file() -> int:
    """Create an empty memfd that can be sealed; return its descriptor."""
    return os.memfd_create("aegis-code", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def sealed_copy(data: bytes | memoryview) -> SealedFile:
    """Return a sealed file with the content ``data``."""
    made = SealedFile(new_file())
    with os.fdopen(os.dup(made.descriptor), "wb") as file:
        file.write(data)
    seal(made.descriptor, SEAL_ALL)
    return made
