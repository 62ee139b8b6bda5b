"""The oracle for guests: wasmtime with its own WASI, which the package itself never links.

It has none of Aegis' limits; only fuel stops a run here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wasmtime

__all__ = ["Loaded", "Native", "Preopen", "run_native"]

FUEL = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Preopen:
    """A host directory and its guest path."""

    host: Path
    guest: str = "."
    write: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """The end of a run: the function's result, the exit code, or the first line of the trap."""

    value: Any
    exit_code: int
    trap: str | None
    stdout: bytes
    stderr: bytes

    @property
    def lines(self) -> list[str]:
        return self.stdout.decode().splitlines()


def run_native(
    path: Path,
    *call: int | float,
    function: str = "_start",
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    preopens: Sequence[Preopen] = (),
    imports: Mapping[tuple[str, str], Callable[..., Any]] | None = None,
) -> Native:
    """Run one export of the guest at ``path``; a trap is an outcome, not an error."""
    with tempfile.TemporaryDirectory() as folder:
        streams = Path(folder)
        (streams / "in").write_bytes(stdin)
        config = _config(path, args, env or {}, streams, preopens)
        value, exit_code, trap = _call(path, function, call, config, imports or {})
        return Native(
            value=value,
            exit_code=exit_code,
            trap=trap,
            stdout=(streams / "out").read_bytes(),
            stderr=(streams / "err").read_bytes(),
        )


class Loaded:
    """An instance without WASI that is kept between calls: ``loaded("add", 2, 3)``."""

    def __init__(self, path: Path, imports: Mapping[tuple[str, str], Callable[..., Any]] | None = None) -> None:
        self.store = wasmtime.Store()
        linker = wasmtime.Linker(self.store.engine)
        module = wasmtime.Module.from_file(self.store.engine, str(path))
        _define(linker, module, imports or {})
        self.instance = linker.instantiate(self.store, module)

    def __call__(self, function: str, *call: int | float) -> Any:
        return _run(self.instance, self.store, function, call)

    @property
    def memory(self) -> wasmtime.Memory:
        memory = self.instance.exports(self.store)["memory"]
        assert isinstance(memory, wasmtime.Memory)
        return memory


def _define(
    linker: wasmtime.Linker, module: wasmtime.Module, imports: Mapping[tuple[str, str], Callable[..., Any]]
) -> None:
    for wanted in module.imports:
        if (provided := imports.get((wanted.module, wanted.name or ""))) is not None:
            assert isinstance(wanted.type, wasmtime.FuncType)
            linker.define_func(wanted.module, wanted.name or "", wanted.type, provided)


def _config(
    path: Path, args: Sequence[str], env: Mapping[str, str], streams: Path, preopens: Sequence[Preopen]
) -> wasmtime.WasiConfig:
    config = wasmtime.WasiConfig()
    config.argv = [path.stem, *args]
    config.env = list(env.items())
    config.stdin_file = str(streams / "in")
    config.stdout_file = str(streams / "out")
    config.stderr_file = str(streams / "err")
    for preopen in preopens:
        config.preopen_dir(str(preopen.host), preopen.guest, preopen.write)
    return config


def _engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.consume_fuel = True
    return wasmtime.Engine(config)


def _call(
    path: Path,
    function: str,
    call: Sequence[int | float],
    wasi: wasmtime.WasiConfig,
    imports: Mapping[tuple[str, str], Callable[..., Any]],
) -> tuple[Any, int, str | None]:
    engine = _engine()
    module = wasmtime.Module.from_file(engine, str(path))
    linker, store = wasmtime.Linker(engine), wasmtime.Store(engine)
    linker.define_wasi()
    linker.allow_shadowing = True  # so that a test can replace WASI by a stub
    store.set_fuel(FUEL)
    store.set_wasi(wasi)
    _define(linker, module, imports)
    try:
        return _run(linker.instantiate(store, module), store, function, call), 0, None
    except wasmtime.ExitTrap as exited:
        return None, exited.code, None
    except (wasmtime.Trap, wasmtime.WasmtimeError) as trap:
        return None, 134, str(trap).strip().splitlines()[-1]
    finally:
        with suppress(wasmtime.WasmtimeError):
            store.close()


def _run(instance: wasmtime.Instance, store: wasmtime.Store, function: str, call: Sequence[int | float]) -> Any:
    exports = instance.exports(store)
    initialize = exports.get("_initialize")
    if isinstance(initialize, wasmtime.Func):
        initialize(store)
    exported = exports[function]
    assert isinstance(exported, wasmtime.Func)
    return exported(store, *call)
