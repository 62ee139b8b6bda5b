"""The confinement of a worker: derives it from the sandbox's policy and applies it to this process."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from aegis.errors import PolicyError
from aegis.host.files.directory import is_state
from aegis.isolation.confine import Confinement, EarlyConfinement, Layer, LayerUnavailable, assemble_filter, confine
from aegis.isolation.protocol.specs import Compile, SandboxSpec, WorkerSpec
from aegis.support.lean import Any

__all__ = [
    "begin_confinement",
    "confine_compiler",
    "confine_sandbox",
    "forbid_imports",
    "kept_finders",
    "prepare_filters",
]

_EXTRA_FILES = 64
_MAX_DATA_BYTES = (1 << 63) - 1  # setrlimit(2) takes larger numbers as unlimited
_FILE_BYTES = 1 << 40  # only a second barrier: the policy's quota is exact; memfds count here too


def prepare_filters() -> None:
    """Assemble the seccomp filter of every kind of worker in advance; forks of this process inherit them."""
    for reads, writes in ((False, False), (True, False), (True, True)):
        for network, listens in ((False, False), (True, False), (True, True)):
            with contextlib.suppress(LayerUnavailable):
                assemble_filter(_expected(WorkerSpec(reads=reads, writes=writes, network=network, listens=listens)))


def begin_confinement(spec: WorkerSpec) -> EarlyConfinement:
    """Apply the layers of confinement that depend only on the worker's specification, before its first sandbox."""
    return EarlyConfinement(_expected(spec), spec.skip)


def _expected(spec: WorkerSpec) -> Confinement:
    return Confinement(
        read_fds=(0,) if spec.reads else (), write_fds=(0,) if spec.writes else (), network=spec.network,
        listens=spec.listens,
    )  # fmt: skip


def confine_sandbox(spec: SandboxSpec, descriptors: Sequence[int], early: EarlyConfinement) -> list[Any]:
    """Confine this process to the needs of one sandbox; return the outcome of each layer as plain data.

    Raise ``PolicyError`` if isolation is strict and a layer is missing.
    """
    limits, network = spec.policy.limits, spec.policy.network
    readers, writers = _granted(spec, descriptors)
    opened = _open()
    further = (limits.open_files or 4096) + 3 * (limits.sockets or 256) + _EXTRA_FILES
    if network is not None:
        _read_roots()
    wanted = Confinement(
        data_bytes=_data_bytes(spec.data_bytes),
        cpu_seconds=None,
        open_files=max(opened) + 1 + further,
        file_bytes=_FILE_BYTES,
        read_fds=readers,
        write_fds=writers,
        network=network is not None,
        listens=network is not None and bool(network.listen),
        keep_fds=opened,
    )
    layers = _reported(confine(wanted, skip=spec.skip, early=early), strict=spec.strict)
    forbid_imports()
    return layers


class _NoImports:
    """Rejects imports after confinement: a module file could not be read, and the attempt would reveal host paths."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ModuleNotFoundError(f"the module {name} was not imported before the worker was confined", name=name)


kept_finders: list[Any] = []
"""Finders that open no files and therefore stay usable after confinement."""


def forbid_imports() -> None:
    """Make every later import fail unless a finder in :data:`kept_finders` has the module."""
    sys.meta_path[:] = [*kept_finders, _NoImports]


def confine_compiler(wanted: Compile, early: EarlyConfinement) -> list[Any]:
    """Confine this process to compiling: no files, no network, and limits on memory and CPU time."""
    seconds = None if wanted.seconds is None else int(wanted.seconds) + 1
    opened = _open()
    closed = Confinement(
        data_bytes=_data_bytes(wanted.data_bytes), cpu_seconds=seconds, open_files=max(opened) + 1 + 16,
        # The code goes to a memfd, which only RLIMIT_FSIZE bounds.
        file_bytes=_FILE_BYTES if wanted.data_bytes is None else wanted.data_bytes, keep_fds=opened,
    )  # fmt: skip
    return _reported(confine(closed, skip=wanted.skip, early=early), strict=False)


def _reported(layers: list[Layer], *, strict: bool) -> list[Any]:
    missing = [layer for layer in layers if not layer.active]
    if strict and missing:
        shown = "; ".join(f"{layer.name}: {layer.detail}" for layer in missing)
        raise PolicyError(f"isolation: strict, and this system lacks {shown}; run with --isolate, or elsewhere")
    return [[layer.name, layer.active, layer.detail] for layer in layers]


def _data_bytes(more: int | None) -> int | None:
    """Return RLIMIT_DATA: the private memory that this process has now, and ``more`` bytes."""
    if more is None:
        return None
    have = 0
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmData:"):
                have = int(line.split()[1]) << 10
    return min(have + more, _MAX_DATA_BYTES)


def _granted(spec: SandboxSpec, descriptors: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    readers: list[int] = []
    writers: list[int] = []
    for folder in spec.folders:
        if folder.descriptor is not None:
            # Cache the result now: it depends on paths that a confined process cannot open.
            is_state(os.fstat(descriptors[folder.descriptor]))
            (writers if folder.writable else readers).append(descriptors[folder.descriptor])
        for number, writable in folder.files.values():
            (writers if writable else readers).append(descriptors[number])
    return tuple(readers), tuple(writers)


def _open() -> tuple[int, ...]:
    """Return every open descriptor: each came from the parent, or the engine opened it."""
    return tuple(int(name) for name in os.listdir("/proc/self/fd"))


def _read_roots() -> None:
    """Load the trusted TLS certificates, whose files a confined worker cannot open."""
    with contextlib.suppress(ImportError, OSError):
        from aegis.host.net.http.transport import roots

        roots()
