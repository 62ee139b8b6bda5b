"""The command ``aegis run``, after its command line is parsed, with or without click."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from aegis.cli.command_line import FORMATS, UsageMistake
from aegis.cli.event_log import EventLog
from aegis.cli.input_files import read_artifact
from aegis.cli.interruptible import Stopped, leave, run_interruptibly
from aegis.cli.options import make_policy, refuse_second_reader
from aegis.cli.output import Output
from aegis.cli.own_files import refuse_shared_files
from aegis.cli.progress import working
from aegis.engine import Module
from aegis.errors import (
    AegisError,
    ArtifactError,
    CallError,
    DeadlineExceeded,
    ExportNotFound,
    LimitExceeded,
    PolicyError,
    ReaderGone,
)
from aegis.limits import LIMIT_NAMES, exceeded, flag_of
from aegis.observe.outcome import Outcome
from aegis.runtime import Aegis
from aegis.sandbox.entry_points import entry_point, require_entry
from aegis.sandbox.link_module import require_imports
from aegis.sandbox.programs import ended, is_program
from aegis.sandbox.sandbox import Sandbox
from aegis.support.lean import TYPE_CHECKING, Any, replace
from aegis.text import count, printable
from aegis.values import Decision, FuncType

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component

__all__ = ["run"]

_MAX_DENIALS_SHOWN = 5
_SIGPIPE_CODE = ReaderGone.exit_code


def run(output: Output, module: str, args: tuple[str, ...], options: dict[str, Any]) -> int:
    """Run the artifact of a command line and return the exit code."""
    output.config += options["config"]
    refuse_second_reader(output.config, [module], options.get("stdin", ()))
    if options["invoke"] is not None and options["function"] is not None:
        raise UsageMistake("-e and --invoke both name a function: give one of them")
    with EventLog(options["events"], module, options["function"]) as events:
        policy = None
        try:
            policy = make_policy(output.config, options, capture=output.json)
            refuse_shared_files(policy, {"--events": None if options["events"] == "-" else options["events"]})
        except AegisError as error:
            events.refuse(error, None if policy is None else policy.filesystem)
            return _failed(output, error, module, options)
        try:
            events.open()
        except (PolicyError, ReaderGone) as error:
            return _failed(output, error, module, options)
        if policy.logging.enabled or policy.network is not None:
            from aegis.cli.guest_log import show_guest_log, show_warnings

            if policy.logging.enabled:
                show_guest_log()
            if policy.network is not None:
                show_warnings(output.say)
        return _CommandRun(output, module, args, policy, options, events).go()


def _failed(output: Output, error: AegisError, path: str, options: dict[str, Any]) -> int:
    """Report a run that did not start, and return its exit code."""
    function, engine = options["function"], _engine(()) if output.json else None
    return output.failure(_misread(error, function), artifact=path, function=function, engine=engine)


class _CommandRun:
    """One run of the command: load the artifact, call a function, report the outcome."""

    def __init__(
        self, output: Output, path: str, args: Sequence[str], policy: Any, options: dict[str, Any], events: EventLog
    ) -> None:
        self.output, self.path, self.args, self.policy = output, path, args, policy
        self.options = options
        self.events = events
        self.module: Module | Component | None = None
        self.sandbox: Sandbox | None = None
        self.function: str | None = options["function"]
        self.denials: dict[str, None] = {}
        self.compiling = False
        """Whether compilation has started; it has finished when ``module`` is set."""

    def go(self) -> int:
        """Run the guest, report the outcome and return the exit code."""
        try:
            outcome = run_interruptibly(self.work, self.cancel, self.policy.limits.timeout)
        except Stopped as stop:
            return self.stopped(stop)
        except (PolicyError, CallError, ArtifactError) as error:
            self.events.end_with(_misread(error, self.options["function"]), self.function)
            return self.recorded(_failed(self.output, error, self.path, self.options))
        except AegisError as error:
            outcome = Outcome.from_error(error)
        return self.present(outcome, outcome.exit_code)

    def cancel(self, error: AegisError, code: int) -> None:
        self.events.stopping(error, code)
        if self.sandbox is not None:
            self.sandbox.cancel()

    def work(self) -> Outcome:
        """Load and run, on a guest thread."""
        limits = self.policy.limits
        runtime = Aegis(self.policy, cache=not self.options["no_cache"], pooled=False, exact_memory="all")
        data = read_artifact(self.path, limits)
        with working(self.output, "compiling", self.path):
            self.module = module = runtime.load(data, self.path, check=self.check)
        if self.policy.proposals and self.output.verbose:
            self.output.say(f"note: enabled beyond the default: {', '.join(self.policy.proposals)}")
        if self.output.verbose:
            self.note_cache(runtime)
        if self.policy.network is not None and module.kind == "module":
            self.output.say("note: a core module has no network; --allow-net and --deny-net apply to components only")
        self.function = name = self.chosen(module)
        program = os.path.basename(self.path)
        arguments = (program, *self.args) if is_program(name) else (program,)
        self.sandbox = sandbox = runtime.sandbox(
            args=arguments, subscribers=self.events.subscribers, trap_missing=self.options["trap_missing"],
            measured=self.options["metrics"] or self.output.json, denied=self.denied,
        )  # fmt: skip
        if isinstance(module, Module):
            return self.run_module(sandbox, module, name)
        return self.run_component(sandbox, module, name)

    def note_cache(self, runtime: Aegis) -> None:
        """Note that the run does not use the cache of compiled code, and why."""
        fault = "--no-cache" if runtime.cache is None else runtime.cache.fault
        if fault is not None:
            self.output.say(f"note: compiled code is not cached: {fault}")

    def chosen(self, module: Module | Component) -> str:
        """Return the function to call; the name of an export may be empty."""
        for name in (self.options["invoke"], self.function):
            if name is not None:
                return str(name)
        return entry_point(module)

    def check(self, artifact: Module | Component) -> None:
        """Reject an artifact that cannot be run, before it is compiled."""
        call = self.options["invoke"]
        if call is not None and artifact.kind == "module":
            raise ArtifactError("--invoke is for components: use -e for a core module")
        name = self.function
        if call is not None:
            from aegis.wit.wave_read import parse_call

            name = parse_call(call).target
        require_entry(artifact, name)
        if isinstance(artifact, Module):
            require_imports(artifact.info, trap_missing=self.options["trap_missing"])
        self.compiling = True

    def load(self, sandbox: Sandbox, artifact: Module | Component) -> None:
        """Instantiate the artifact; note the layers of isolation that its worker lacks."""
        sandbox.load(artifact)
        self.output.note_layers(sandbox.layers, self.policy.isolation)

    def run_module(self, sandbox: Sandbox, module: Module, name: str) -> Outcome:
        call = () if name == "_start" else convert(name, module, self.args)
        with sandbox:
            self.load(sandbox, module)
            return sandbox.run(name, *call)

    def run_component(self, sandbox: Sandbox, component: Component, name: str) -> Outcome:
        """Run a component's program, or one call; convert the result to WAVE."""
        from aegis.cli.invocation import Invocation

        with sandbox:
            if self.options["invoke"] is None and is_program(name):
                self.load(sandbox, component)
                return ended(name, sandbox.run(name))
            text = name if self.options["invoke"] is not None else None
            call = Invocation.of(component, text, name, self.args)
            self.function = call.target
            self.load(sandbox, component)
            outcome = sandbox.run(call.target, *call.arguments)
            if outcome.error is not None:
                return outcome
            try:
                return replace(outcome, value=call.shown(outcome.value))
            except AegisError as error:  # of the guest that writes a stream of its result
                streams = {"stdout": sandbox.stdout, "stderr": sandbox.stderr}
                return Outcome.from_error(error, usage=sandbox.usage, denials=outcome.denials, **streams)

    def denied(self, decision: Decision) -> None:
        """Record a denial with its remedy, without duplicates and up to a maximum."""
        from aegis.cli.denials import denial_line

        if len(self.denials) <= _MAX_DENIALS_SHOWN:
            self.denials[denial_line(decision, self.policy)] = None

    # -- reporting -----------------------------------------------------------------------------

    def stopped(self, stop: Stopped) -> int:
        """Report a run that was stopped; end the process if its thread is stuck."""
        usage = None if self.sandbox is None or stop.stuck else self.sandbox.usage
        error = stop.error
        if isinstance(error, DeadlineExceeded) and self.compiling and self.module is None:
            allowed = error.allowed or 0.0
            after = " during compilation, before the guest started"
            message = exceeded("timeout", allowed, allowed, unit="in one run", after=after)
            error = DeadlineExceeded(message, limit="timeout", used=allowed, allowed=allowed)
        outcome = Outcome.from_error(error, usage=usage)
        try:
            code = self.present(outcome, stop.code)
        finally:
            if stop.stuck:
                self.events.close()
                leave(stop.code)
        return code

    def present(self, outcome: Outcome, code: int) -> int:
        """Print the outcome and return the exit code."""
        lost = self.undelivered()
        if lost is not None and not self.output.json:
            code = code or 125
        self.events.end(outcome, code, self.function)
        code = self.recorded(code)
        if self.output.json:
            self.output.report(self.report(outcome, code))
            return code
        if isinstance(outcome.error, ReaderGone):
            pass  # silent, as a process that SIGPIPE kills
        elif outcome.error is not None and outcome.status != "exited":
            self.output.complain(_with_remedy(outcome.error))
        elif outcome.value is not None:
            self.output.result({}, outcome.value if isinstance(outcome.value, str) else shown(outcome.value))
        for line in list(self.denials)[:_MAX_DENIALS_SHOWN]:
            self.output.say(line)
        if lost is not None:
            self.output.complain(lost)
        if self.options["metrics"]:
            self.output.flush()
            failed = self.output.print_report(self.report(outcome, code))
            if failed is not None:
                return code or _code_of(failed)  # the report was asked for and is lost
        return code

    def undelivered(self) -> str | None:
        """Return an error message if output of the guest was lost, which changes exit code 0 to 125, else ``None``."""
        lost = self.sandbox.undelivered if self.sandbox is not None else None
        if lost is None or isinstance(lost[1], BrokenPipeError):  # without a reader, the run has ended with ReaderGone
            return None
        name, error = lost
        why = f"failed: {(error.strerror or 'error').lower()}"
        return f"output of the guest was lost: its {name} {why}: redirect it to a file with enough room"

    def recorded(self, code: int) -> int:
        """Return the exit code; an incomplete event log changes 0 to 125."""
        lost = self.events.lost(() if self.sandbox is None else self.sandbox.events.failures)
        if lost is None:
            return code
        error, message = lost
        if self.options["events"] == "-" and isinstance(error, BrokenPipeError):
            return code or _SIGPIPE_CODE
        self.output.complain(message)
        return code or 125

    def report(self, outcome: Outcome, code: int) -> Any:
        from dataclasses import asdict

        from aegis.observe.report import ExecutionReport

        report = ExecutionReport.of(
            outcome, artifact=self.path, digest=self.module.digest if self.module else None, function=self.function,
            granted=self.policy.describe(), proposals=self.policy.proposals, limits=asdict(self.policy.limits),
            layers=self.sandbox.layers if self.sandbox else (), engine=_engine(self.policy.proposals),
            subscribers_failed=len(self.sandbox.events.failures) if self.sandbox else 0,
            events_lost=self.sandbox.events.lost if self.sandbox else 0,
        )  # fmt: skip
        return replace(report, exit_code=code)


def _code_of(error: OSError) -> int:
    """Return the exit code for output of Aegis that was lost."""
    return _SIGPIPE_CODE if isinstance(error, BrokenPipeError) else 125


def _engine(proposals: Sequence[str]) -> dict[str, Any] | None:
    """Return the engine's versions and advisories for the report; ``None`` if the engine cannot be loaded."""
    from aegis.engine.native.advisories import engine_facts

    try:
        return engine_facts(proposals).to_dict()
    except (AegisError, OSError):
        return None


def _misread(error: AegisError, function: str | None) -> AegisError:
    """Return ``error``, with a hint if the user gave ``-f json`` after the command, where ``-f`` names a function."""
    if isinstance(error, ExportNotFound) and function in FORMATS:
        hint = f"{error}; -f names a function here: the format is --format {function}"
        return ExportNotFound(hint, name=error.name, near=error.near)
    return error


def _with_remedy(error: AegisError) -> str:
    """Return the message of an error; add the option that raises the limit if a worker's message lacks it."""
    if not isinstance(error, LimitExceeded) or error.limit not in LIMIT_NAMES or flag_of(error.limit) in str(error):
        return str(error)
    return f"{error}: raise it with {error.limit} or {flag_of(error.limit)}"


def shown(value: Any) -> str:
    """Return the numbers of a core result on one line."""
    return " ".join(map(repr, value)) if isinstance(value, tuple) else repr(value)


def convert(name: str, module: Module, words: Sequence[str]) -> tuple[int | float, ...]:
    """Convert words to arguments for the export's signature; raise ``CallError`` if they do not fit."""
    signature = module.signature(name)
    label = f"{printable(name)}{signature}"
    if module.export(name) is None or not isinstance(module.export(name).type, FuncType):  # type: ignore[union-attr]
        return ()
    if len(words) != len(signature.params):
        raise CallError(f"{label} takes {count(len(signature.params), 'argument')}, not {len(words)}")
    return tuple(
        _number(label, n, kind, word) for n, (kind, word) in enumerate(zip(signature.params, words, strict=True), 1)
    )


def _number(label: str, position: int, kind: str, word: str) -> int | float:
    parse: Callable[[str], int | float] = float if kind.startswith("f") else lambda text: int(text, 0)
    try:
        return parse(word)
    except ValueError:  # also for more digits than Python converts
        wrong = "is out of range for" if word.lstrip("+-").isdecimal() else "is not a number for"
        raise CallError(f"{label}: argument {position}, {printable(word, 60)!r}, {wrong} {kind}") from None
