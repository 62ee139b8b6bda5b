"""The command line: thin commands over the library. Results go to stdout, everything else to stderr."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line with the process's arguments, and end the process with its exit code.

    It ends without the interpreter's own farewell, which takes longer than a small guest's run and
    would wait for threads that have nothing to say any more.
    """
    from aegis.cli.main import main as run
    from aegis.cli.supervise import leave

    leave(run())
