"""How things are said: to people or as JSON, escaped, and always with the exit code that belongs to it."""

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

__all__ = ["Face"]


class Face:
    """The streams and the form that the user chose."""

    def __init__(
        self, *, form: str = "human", verbose: int = 0, quiet: bool = False, config: str | None = None
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

    def tell_report(self, report: ExecutionReport) -> None:
        """Print a run's report beside the result, for people."""
        _stderr(_shown(report.to_text()))

    def _print(self, text: str) -> None:
        if text:
            with self._delivering():
                _write(sys.stdout, _shown(text) + "\n")

    def flush(self) -> None:
        """Deliver what was printed; a full disk or a closed pipe is known only now."""
        with self._delivering():
            sys.stdout.flush()

    @contextmanager
    def _delivering(self) -> Iterator[None]:
        """Remember an error of stdout, which is reported otherwise than one of a file."""
        try:
            yield
        except OSError as error:
            self._undelivered = error
            raise

    # -- everything else -----------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Print a line for people, unless they asked for quiet or for JSON."""
        if not self.quiet and not self.json:
            _stderr(visible(text))

    def complain(self, text: str) -> None:
        """Print the one line of a failure."""
        _stderr(f"error: {visible(text)}")

    def failure(self, error: AegisError, **fields: Any) -> int:
        """Tell of an error of ours, return its exit code."""
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
        """Report a command line that means nothing; ``command`` is the one whose help says more."""
        hint = f" (see '{command} --help')" if command is not None else ""
        return self._plain("usage", "embedder", printable(message, 500) + hint, code)

    def system_error(self, error: OSError) -> int:
        """Report an error of the system. After one of stdout, stdout is given up, so that nothing repeats at exit."""
        reason = printable(str(error.strerror or error), 200).lower()
        if self._undelivered is error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            self.complain(f"the output cannot be written: {reason}")
            return 125
        where = f"{quoted(os.fsdecode(error.filename))}: " if isinstance(error.filename, (str, bytes)) else ""
        return self._plain("system-error", "embedder", f"{where}{reason}", 125)

    def defect(self, error: Exception) -> int:
        """Tell of what should never happen."""
        if self.verbose >= 2:
            import traceback

            traceback.print_exc()
        what = f"{type(error).__name__}: {printable(str(error))}"
        text = f"a defect of aegis: {what}; please report it, with -vv for the traceback"
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
    """Return lines without anything that a terminal obeys, whoever wrote it."""
    return "\n".join(map(visible, text.split("\n")))


def _write(stream: TextIO, text: str) -> None:
    """Write text; what the stream's encoding lacks is escaped."""
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))


def _stderr(text: str) -> None:
    try:
        _write(sys.stderr, text + "\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody can be told that nobody can be told
