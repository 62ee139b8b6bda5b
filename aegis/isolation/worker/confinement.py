"""In a worker: from a policy to the confinement that the operating system keeps, and closing the doors."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from aegis.errors import PolicyError
from aegis.host.files.directory import is_state
from aegis.isolation.confine import Begun, Confinement, Layer, LayerUnavailable, assemble_filter, confine
from aegis.isolation.protocol.setup import Brief, Compile, Setup
from aegis.support.lean import Any

__all__ = ["begin_closing", "close_doors", "close_for_compiling", "close_imports", "kept_imports", "prepare_filters"]

_FILES_BESIDE = 64
_MOST_DATA_BYTES = (1 << 63) - 1  # a larger number is no limit of the system's
_FILE_BYTES = 1 << 40  # the policy's own quota is exact; files in memory count here too


def prepare_filters() -> None:
    """Assemble the filter of every kind of worker: forks of this process have them ready."""
    for reads, writes in ((False, False), (True, False), (True, True)):
        for network, listens in ((False, False), (True, False), (True, True)):
            with contextlib.suppress(LayerUnavailable):
                assemble_filter(_expected(Brief(reads=reads, writes=writes, network=network, listens=listens)))


def begin_closing(brief: Brief) -> Begun:
    """Confine this process to what it may have at most, as far as that is known before its sandbox is."""
    return Begun(_expected(brief), brief.skip)


def _expected(brief: Brief) -> Confinement:
    return Confinement(
        read_fds=(0,) if brief.reads else (), write_fds=(0,) if brief.writes else (), network=brief.network,
        listens=brief.listens,
    )  # fmt: skip


def close_doors(setup: Setup, descriptors: Sequence[int], begun: Begun) -> list[Any]:
    """Confine this process to what one sandbox needs; return the layers, and refuse a strict one that lacks some."""
    limits, network = setup.policy.limits, setup.policy.network
    readers, writers = _granted(setup, descriptors)
    opened = _open()
    beside = (limits.open_files or 4096) + 3 * (limits.sockets or 256) + _FILES_BESIDE
    if network is not None:
        _read_roots()
    wanted = Confinement(
        data_bytes=_data_bytes(setup.data_bytes),
        cpu_seconds=None,
        open_files=max(opened) + 1 + beside,
        file_bytes=_FILE_BYTES,
        read_fds=readers,
        write_fds=writers,
        network=network is not None,
        listens=network is not None and bool(network.listen),
        keep_fds=opened,
    )
    layers = _reported(confine(wanted, skip=setup.skip, begun=begun), strict=setup.strict)
    close_imports()
    return layers


class _NoImports:
    """Refuses imports after confinement: what is not loaded yet cannot be read, and the attempt tells host paths."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ModuleNotFoundError(f"the module {name} was not imported before the worker was confined", name=name)


kept_imports: list[Any] = []
"""Finders of modules that open nothing, which stay."""


def close_imports() -> None:
    """Let no import of this process look for a file any more."""
    sys.meta_path[:] = [*kept_imports, _NoImports]


def close_for_compiling(wanted: Compile, begun: Begun) -> list[Any]:
    """Confine this process to compiling: no files, no network, so much memory and time."""
    seconds = None if wanted.seconds is None else int(wanted.seconds) + 1
    opened = _open()
    closed = Confinement(
        data_bytes=_data_bytes(wanted.data_bytes), cpu_seconds=seconds, open_files=max(opened) + 1 + 16,
        # The code goes to a file in memory, which the kernel counts here and nowhere else.
        file_bytes=_FILE_BYTES if wanted.data_bytes is None else wanted.data_bytes, keep_fds=opened,
    )  # fmt: skip
    return _reported(confine(closed, skip=wanted.skip, begun=begun), strict=False)


def _reported(layers: list[Layer], *, strict: bool) -> list[Any]:
    missing = [layer for layer in layers if not layer.active]
    if strict and missing:
        shown = "; ".join(f"{layer.name}: {layer.detail}" for layer in missing)
        raise PolicyError(f"isolation: strict, and this system lacks {shown}; run with --isolate, or elsewhere")
    return [[layer.name, layer.active, layer.detail] for layer in layers]


def _data_bytes(more: int | None) -> int | None:
    """Return what private memory may be in all: what this process has now, and ``more``."""
    if more is None:
        return None
    have = 0
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmData:"):
                have = int(line.split()[1]) << 10
    return min(have + more, _MOST_DATA_BYTES)


def _granted(setup: Setup, descriptors: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    readers: list[int] = []
    writers: list[int] = []
    for folder in setup.folders:
        if folder.descriptor is not None:
            is_state(os.fstat(descriptors[folder.descriptor]))  # once, for it looks at paths that will be out of reach
            (writers if folder.writable else readers).append(descriptors[folder.descriptor])
        for number, writable in folder.files.values():
            (writers if writable else readers).append(descriptors[number])
    return tuple(readers), tuple(writers)


def _open() -> tuple[int, ...]:
    """Return every descriptor that is open: each came from the parent, or the engine opened it for itself."""
    return tuple(int(name) for name in os.listdir("/proc/self/fd"))


def _read_roots() -> None:
    """Read the roots of trust: a confined worker cannot open their files."""
    with contextlib.suppress(ImportError, OSError):
        from aegis.host.net.http.transport import roots

        roots()
