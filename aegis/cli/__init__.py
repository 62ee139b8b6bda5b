"""The command line: thin commands over the library. Results go to stdout, all other output to stderr."""

from __future__ import annotations

import os
import sys

from aegis.support.module_archive import ModuleArchive

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line with the arguments of the process, and end the process with the exit code."""
    try:
        # Before any other import, because the archive has the code of nearly all modules.
        archive = ModuleArchive.install() if sys.argv[1:2] == ["run"] else None
        from aegis.cli.process import run_process

        run_process(archive)
    except KeyboardInterrupt:  # during the imports: a command that has begun handles Ctrl-C itself
        from contextlib import suppress

        with suppress(OSError, ValueError):
            print("error: interrupted", file=sys.stderr, flush=True)
        os._exit(130)
