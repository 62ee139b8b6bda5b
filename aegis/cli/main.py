"""From words to an exit code, and the one place where an exception becomes a line.

A plain ``aegis run`` is read here, by the table that click's own command is made from. click, which takes longer to
import than a small guest to run, reads everything else: other commands, help, and lines with a mistake, so that there
is one wording for each.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence

from aegis.cli.options import GROUP, RUN, shared
from aegis.cli.render import Face
from aegis.cli.words import Misuse, read_line
from aegis.errors import AegisError, Cancelled

__all__ = ["main", "plain_run"]


class _HungUp(Exception):
    """Nothing reads the output any more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. No exception leaves, and no traceback is shown unasked."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    face = Face()
    try:
        if arguments is None and any(word.startswith("--isolate") for word in words):
            _fork_ahead()
        run = plain_run(words, face)
        if not gc.isenabled():  # all that was imported stays
            gc.freeze()
            gc.enable()
        code = _by_click(words, face) if run is None else run()
        face.flush()
    except Misuse as error:
        code = face.usage_error(str(error), 2, None)
    except AegisError as error:
        code = face.failure(error)
    except KeyboardInterrupt:
        code = face.failure(Cancelled("interrupted"))
    except (BrokenPipeError, _HungUp):
        code = _hang_up()
    except OSError as error:
        code = face.system_error(error)
    except Exception as error:
        code = face.defect(error)
    return code


def _fork_ahead() -> None:
    """Fork the run's worker, now that there is nothing yet that it should not have."""
    from aegis.cli import run
    from aegis.isolation.parent.forked import fork_worker

    del run  # loaded now, both have it: pages of memory that are written after the fork are copied
    fork_worker()


def plain_run(words: Sequence[str], face: Face) -> Callable[[], int] | None:
    """Return what runs the guest that a line names, ``None`` for a line that click is to read.

    ``face`` gets the options of the line that are its own.
    """
    before = read_line(words, GROUP, leading=True)
    if before.fault or before.words[:1] != ["run"]:
        return None
    known = (*RUN, *shared(short=False))
    line = read_line(before.words[1:], known, guest=True)
    common, options = before.values(GROUP), line.values(known)
    if line.fault or not line.words or common is None or options is None:
        return None
    for name in ("form", "verbose", "quiet"):
        setattr(face, name, options.pop(name) or common[name])
    face.config = common["config"]
    from aegis.cli.run import run

    module, *args = line.words
    return lambda: run(face, module, tuple(args), options)


def _by_click(words: Sequence[str], face: Face) -> int:
    from aegis.cli.commands import HungUp, run_command

    try:
        return run_command(words, face)
    except HungUp:
        raise _HungUp from None


def _hang_up() -> int:
    """Nobody reads any more: end as a program does that SIGPIPE ends, and write nothing at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141
