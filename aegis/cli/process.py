"""The process of a command: its environment, its standard streams and its end."""

from __future__ import annotations

import gc
import io
import os
import sys
from contextlib import suppress

from aegis.support.descriptors import occupy_standard
from aegis.support.lean import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from aegis.support.module_archive import ModuleArchive

__all__ = ["run_process"]

_STEERING = (
    "PYTHONPATH", "PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONPYCACHEPREFIX", "PYTHONUSERBASE", "PYTHONWARNINGS",
)  # fmt: skip
"""Variables by which Python imports modules that others than the installation chose."""
_AGAIN = """\
import sys
root, *sys.argv = sys.argv[1:]
if root not in sys.path:
    sys.path.append(root)
from aegis.cli import main
main()
"""


def run_process(archive: ModuleArchive | None) -> NoReturn:
    """Run the command line with the arguments of the process, and end the process with the exit code.

    The process ends without the interpreter's finalisation, which takes longer than the run of a small guest and would
    wait for threads that may never return. ``archive`` takes the modules that were imported without it.
    """
    _leave_environment()
    _complete_streams()  # before any file is opened, see aegis.support.descriptors
    gc.disable()  # during the imports: otherwise collections take a tenth of the start
    from aegis.cli.interruptible import leave
    from aegis.cli.main import main as run

    code = run()
    if archive is not None:
        forked = sys.modules.get("aegis.isolation.worker.importable")
        archive.save(() if forked is None else forked.forked_worker_modules())
    leave(code)


def _leave_environment() -> None:
    """Start Python again in isolated mode if the environment decides which modules it imports.

    A module in ``PYTHONPATH`` would come before those of the installation, and of the standard library. Without such
    variables this costs nothing. The folder of this package stays on the path, after all others: it may be there by
    ``PYTHONPATH`` alone.
    """
    steered = not sys.flags.ignore_environment and any(name in os.environ for name in _STEERING)
    if steered and sys.executable:
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        flags = ["-I", "-X", f"utf8={sys.flags.utf8_mode}", *(["-B"] if sys.dont_write_bytecode else [])]
        os.execv(sys.executable, [sys.executable, *flags, "-c", _AGAIN, root, *sys.argv])


def _complete_streams() -> None:
    """Replace the standard streams that the process was started without by ``/dev/null``.

    Give the others the encoding of ``PYTHONIOENCODING``, which Python ignores in isolated mode.
    """
    occupy_standard()
    if sys.stdin is None:
        sys.stdin = _stream(0, "r")
    if sys.stdout is None:
        sys.stdout = _stream(1, "w")
    if sys.stderr is None:
        sys.stderr = _stream(2, "w")
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    if (encoding or errors) and sys.flags.ignore_environment:
        with suppress(LookupError):  # Python outside isolated mode ends at its start for an unknown encoding
            for stream in (sys.stdin, sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    handler = "backslashreplace" if stream is sys.stderr else errors or "strict"
                    stream.reconfigure(encoding=encoding or stream.encoding, errors=handler)


def _stream(descriptor: int, mode: str) -> TextIO:
    return open(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # type: ignore[return-value]
