"""Print results and errors, as text or as JSON, with everything from a guest escaped."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from aegis.errors import AegisError
from aegis.support.lean import TYPE_CHECKING, Any, TextIO
from aegis.text import printable, quoted, visible

if TYPE_CHECKING:
    from aegis.observe.report import ExecutionReport
    from aegis.policy import Isolation

__all__ = ["Output"]


class Output:
    """The output of one command: standard streams, format and verbosity."""

    def __init__(
        self, *, form: str = "human", verbose: int = 0, quiet: bool = False, config: tuple[str, ...] = ()
    ) -> None:
        self.form = form
        self.verbose = verbose
        self.quiet = quiet
        self.config = config
        self.command: str | None = None
        """The name of the command, ``None`` before it is known."""
        self._undelivered: OSError | None = None

    @property
    def json(self) -> bool:
        return self.form.startswith("json")

    # -- results -------------------------------------------------------------------------------

    def result(self, data: Mapping[str, Any], text: str, code: int = 0) -> None:
        """Print a result, as one JSON document or as ``text``; ``code`` is the exit code of the command."""
        self._print(self.document("ok" if code == 0 else "failure", code, None, data) if self.json else text)

    def document(self, status: str, code: int, error: Mapping[str, Any] | None, data: Mapping[str, Any]) -> str:
        """Return a JSON document: the keys that every document has, then ``data``."""
        from aegis.observe.encode import dump
        from aegis.observe.report import SCHEMA_VERSION

        head = {"schema_version": SCHEMA_VERSION, "command": self.command, "status": status, "exit_code": code}
        return dump({**head, "error": error, **data}, indent=None if self.form == "json-compact" else 2)

    def report(self, report: ExecutionReport) -> None:
        """Print a run's report as the result."""
        data = report.to_dict()
        self._print(self.document(report.status, report.exit_code, data["error"], data))

    def print_report(self, report: ExecutionReport) -> OSError | None:
        """Print a run's report as text on stderr, in addition to the result; return the error if that fails."""
        return _stderr(_shown(report.to_text()))

    def _print(self, text: str) -> None:
        if text:
            with self._delivering():
                _write(sys.stdout, _shown(text) + "\n")

    def flush(self) -> None:
        """Flush stdout; errors such as a full disk or a closed pipe may appear only here."""
        with self._delivering():
            sys.stdout.flush()

    @contextmanager
    def _delivering(self) -> Iterator[None]:
        """Record an ``OSError`` of stdout, to distinguish it from errors of other files."""
        try:
            yield
        except OSError as error:
            self._undelivered = error
            raise

    # -- notes and errors ----------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Print a note on stderr, unless the user chose --quiet or JSON."""
        if not self.quiet and not self.json:
            _stderr(visible(text))

    def note_layers(self, layers: Iterable[tuple[str, bool, str]], isolation: Isolation | None) -> None:
        """Print a note if layers of a worker's confinement are missing that the policy does not leave out."""
        left_out = () if isolation is None else isolation.without
        missing = [name for name, active, _ in layers if not active and name not in left_out]
        if missing:
            self.say(
                f"note: isolated without {', '.join(missing)}: aegis doctor --strict tells how to get them, and "
                "--isolate=strict refuses to run without them"
            )

    def complain(self, text: str) -> None:
        """Print an error line on stderr."""
        _stderr(f"error: {visible(text)}")

    def failure(self, error: AegisError, **fields: Any) -> int:
        """Report an error and return its exit code."""
        from aegis.observe.outcome import Outcome
        from aegis.observe.report import error_data

        outcome = Outcome.from_error(error)
        data = error_data(error) if self.json else {}
        return self._fail(outcome.status, outcome.exit_code, data, str(error), **fields)

    def usage_error(self, message: str, code: int, command: str | None) -> int:
        """Report an invalid command line and return ``code``; ``command`` is the command whose help is relevant."""
        hint = f" (see '{command} --help')" if command is not None else ""
        return self._plain("usage", "embedder", printable(message, 500) + hint, code)

    def system_error(self, error: OSError) -> int:
        """Report an ``OSError`` and return its exit code; after one of stdout, redirect stdout to ``/dev/null``."""
        reason = printable(str(error.strerror or error), 200).lower()
        if self._undelivered is error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            self.complain(f"stdout cannot be written: {reason}")
            return 125
        where = f"{quoted(os.fsdecode(error.filename))}: " if isinstance(error.filename, (str, bytes)) else ""
        return self._plain("system-error", "embedder", f"{where}{reason}", 125)

    def defect(self, error: Exception) -> int:
        """Report an unexpected exception, which is a bug of Aegis, and return its exit code."""
        if self.verbose >= 2:
            import traceback

            traceback.print_exc()
        what = f"{type(error).__name__}: {printable(str(error))}"
        text = f"internal error of aegis: {what}: please report it, with the traceback from -vv"
        return self._plain("internal-error", "aegis", text, 125)

    def _plain(self, kind: str, blame: str, message: str, code: int) -> int:
        return self._fail(kind, code, {"kind": kind, "blame": blame, "message": message}, message)

    def _fail(self, status: str, code: int, error: Mapping[str, Any], message: str, **fields: Any) -> int:
        """Report a failure: as a whole report for ``run``, whose keys never depend on the ending."""
        if not self.json:
            self.complain(message)
            return code
        try:
            if self.command == "run":
                from aegis.observe.report import ExecutionReport

                self.report(ExecutionReport(status=status, exit_code=code, error=error, **fields))
            else:
                self._print(self.document(status, code, error, {}))
            self.flush()
        except OSError:
            self.complain(message)
        return code


def _shown(text: str) -> str:
    """Return lines with all control characters escaped."""
    return "\n".join(map(visible, text.split("\n")))


def _write(stream: TextIO, text: str) -> None:
    """Write text; escape characters that the stream's encoding does not have."""
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))


def _stderr(text: str) -> OSError | None:
    """Print a line on stderr; return the error if that fails, for which there is no place to report it."""
    try:
        _write(sys.stderr, text + "\n")
        sys.stderr.flush()
    except OSError as error:
        return error
    return None
