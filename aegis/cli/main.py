"""Run a command line, and convert every exception to an error line and an exit code.

A valid ``aegis run`` is parsed here, with the table from which the click command is built, because importing click
takes longer than running a small guest. click handles all other command lines: other commands, help and mistakes.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence

from aegis.cli.command_line import UsageMistake, read_line
from aegis.cli.options import GROUP, run_options, shared
from aegis.cli.output import Output
from aegis.errors import AegisError, Cancelled

__all__ = ["main", "plain_run"]


_COLLECT_AFTER = 10_000
"""Objects made before the first garbage collection, with Python's default a run of a small guest has a dozen."""


class _BrokenPipe(Exception):
    """The reader of the output has closed the pipe."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never raise, and show a traceback only with ``-vv``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    output = Output()
    try:
        isolates = any(word.startswith("--isolate") for word in words)
        if arguments is None and isolates and "serve" not in words:  # whose workers are those of a pool
            _fork_ahead()
        run = plain_run(words, output)
        if not gc.isenabled():  # run_process disabled it; imported modules are never garbage
            gc.freeze()
            gc.set_threshold(_COLLECT_AFTER)
            gc.enable()
        code = _by_click(words, output) if run is None else run()
        output.flush()
    except UsageMistake as error:
        code = output.usage_error(str(error), 2, None)
    except AegisError as error:
        code = output.failure(error)
    except KeyboardInterrupt:
        code = output.failure(Cancelled("interrupted"))
    except (BrokenPipeError, _BrokenPipe):
        code = _discard_output()
    except OSError as error:
        code = output.system_error(error)
    except Exception as error:
        code = output.defect(error)
    return code


def _fork_ahead() -> None:
    """Fork the worker of the run now, while this process holds neither secrets nor open files for it to inherit."""
    from aegis.cli import run
    from aegis.isolation.parent.forked import fork_worker

    del run  # imported before the fork, so that both processes share its pages until one of them writes
    fork_worker()


def plain_run(words: Sequence[str], output: Output) -> Callable[[], int] | None:
    """Return a function that runs the guest of a valid ``aegis run`` line; ``None`` for all other lines.

    Set the output options of the line on ``output``.
    """
    before = read_line(words, GROUP, leading=True)
    if before.fault or before.words[:1] != ["run"]:
        return None
    known = (*run_options(before.words), *shared(short=False))
    line = read_line(before.words[1:], known, guest=True)
    common, options = before.values(GROUP), line.values(known)
    if line.fault or not line.words or common is None or options is None:
        return None
    output.command = "run"
    for name in ("form", "verbose", "quiet"):
        setattr(output, name, options.pop(name) or common[name])
    output.config = common["config"]
    from aegis.cli.run import run

    module, *args = line.words
    return lambda: run(output, module, tuple(args), options)


def _by_click(words: Sequence[str], output: Output) -> int:
    from aegis.cli.commands import OutputClosed, run_command

    try:
        return run_command(words, output)
    except OutputClosed:
        raise _BrokenPipe from None


def _discard_output() -> int:
    """Redirect stdout to ``/dev/null``, so that nothing fails at exit; return the exit code of a SIGPIPE, 128 + 13."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141
