"""The command line: thin commands over the library. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import gc
import sys

from aegis.support.descriptors import occupy_standard
from aegis.support.lean import NoReturn, TextIO

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line with the process's arguments, and end the process with its exit code.

    It ends without the interpreter's own farewell, which takes longer than a small guest's run and
    would wait for threads that have nothing to say any more.
    """
    _complete_streams()  # before anything is opened
    gc.disable()  # until everything is imported: a tenth of a start goes into looking for garbage in it
    from aegis.cli.main import main as run
    from aegis.cli.supervise import leave

    leave(run())


def _complete_streams() -> None:
    """Give the process the standard streams that it was started without: they are empty, and swallow everything."""
    occupy_standard()
    if sys.stdin is None:
        sys.stdin = _stream(0, "r")
    if sys.stdout is None:
        sys.stdout = _stream(1, "w")
    if sys.stderr is None:
        sys.stderr = _stream(2, "w")


def _stream(descriptor: int, mode: str) -> TextIO:
    return open(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # type: ignore[return-value]
