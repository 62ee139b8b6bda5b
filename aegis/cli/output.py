"""Print results and errors, as text or as JSON, with everything from a guest escaped."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aegis.errors import AegisError
from aegis.support.lean import TYPE_CHECKING, Any, TextIO
from aegis.text import printable, quoted, visible

if TYPE_CHECKING:
    from aegis.observe.report import ExecutionReport

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
        self._undelivered: OSError | None = None

    @property
    def json(self) -> bool:
        return self.form != "human"

    # -- results -------------------------------------------------------------------------------

    def result(self, data: Mapping[str, Any], text: str) -> None:
        """Print a result, as one JSON document or as ``text``."""
        self._print(self.document(data) if self.json else text)

    def document(self, data: Mapping[str, Any]) -> str:
        from aegis.observe.encode import dump

        return dump(data, indent=None if self.form == "json-compact" else 2)

    def report(self, report: ExecutionReport) -> None:
        """Print a run's report as the result."""
        self._print(report.to_json(indent=None if self.form == "json-compact" else 2))

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

    def complain(self, text: str) -> None:
        """Print an error line on stderr."""
        _stderr(f"error: {visible(text)}")

    def failure(self, error: AegisError, **fields: Any) -> int:
        """Report an error and return its exit code."""
        from aegis.observe.outcome import Outcome
        from aegis.observe.report import ExecutionReport

        outcome = Outcome.from_error(error)
        if self.json:
            try:
                self.report(ExecutionReport.of(outcome, **fields))
                self.flush()
            except OSError:
                self.complain(str(error))
        else:
            self.complain(str(error))
        return outcome.exit_code

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
        if not self.json:
            self.complain(message)
            return code
        error = {"kind": kind, "blame": blame, "message": message}
        try:
            self._print(self.document({"status": kind, "exit_code": code, "error": error}))
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
