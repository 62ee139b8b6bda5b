"""The command line: thin commands over the library. Results go to stdout, all other output to stderr."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress

from aegis.support.descriptors import occupy_standard
from aegis.support.lean import NoReturn, TextIO

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line with the arguments of the process, and end the process with the exit code.

    The process ends without the interpreter's finalisation, which takes longer than the run of a small guest and would
    wait for threads that may never return.
    """
    _complete_streams()  # before any file is opened, see aegis.support.descriptors
    gc.disable()  # during the imports: otherwise collections take a tenth of the start
    try:
        from aegis.cli.interruptible import leave
        from aegis.cli.main import main as run

        code = run()
    except KeyboardInterrupt:  # during the imports: a command that has begun handles Ctrl-C itself
        with suppress(OSError, ValueError):
            print("error: interrupted", file=sys.stderr, flush=True)
        os._exit(130)
    leave(code)


def _complete_streams() -> None:
    """Replace the standard streams that the process was started without by ``/dev/null``."""
    occupy_standard()
    if sys.stdin is None:
        sys.stdin = _stream(0, "r")
    if sys.stdout is None:
        sys.stdout = _stream(1, "w")
    if sys.stderr is None:
        sys.stderr = _stream(2, "w")


def _stream(descriptor: int, mode: str) -> TextIO:
    return open(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # type: ignore[return-value]
