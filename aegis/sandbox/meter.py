"""The usage of a sandbox, and its events: the door counts, the meter reads the counters and publishes on the bus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import sub
from weakref import proxy

from aegis.errors import AegisError, GuestTrap, SandboxStateError
from aegis.observe.outcome import Outcome, Usage
from aegis.sandbox.programs import ended
from aegis.support.lean import TYPE_CHECKING, Any, NamedTuple
from aegis.values import Decision, MemoryFault, Rows
from aegis.wit.err import Err

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.engine.compile.code import Artifact
    from aegis.host import Grants
    from aegis.host.stdio import Stdio
    from aegis.sandbox.backend import Run, Store

__all__ = ["Meter"]


class _Mark(NamedTuple):
    """The counters at one moment; ``time`` in seconds of ``perf_counter``."""

    time: float
    host_calls: int
    bytes_in: int
    bytes_out: int
    host_seconds: float
    denials: int
    stdout: int
    stderr: int


class Meter:
    """The counters of one sandbox since it was created or reset."""

    __slots__ = (
        "_bus",
        "_count",
        "_fuel",
        "_latest",
        "_measured_until",
        "_memory",
        "_output",
        "_run",
        "_seconds",
        "undelivered",
    )

    def __init__(self, run: Run) -> None:
        self._run: Run = proxy(run)  # the run refers to the meter; a cycle would have to wait for the collector
        self._bus = run.bus
        self._memory = 0
        self._seconds = 0.0
        self._measured_until = 0.0
        self._fuel: int | None = None
        self._output = {1: b"", 2: b""}
        self._count = {1: 0, 2: 0}
        self.undelivered: tuple[str, OSError] | None = None
        if run.kept_stdio is not None:
            self._keep_stdio(run.kept_stdio)

    # -- counting ------------------------------------------------------------------------------

    def mark(self) -> _Mark:
        """Return the present counters."""
        door = self._run.door
        limit = door.limits.host_calls
        made = (1 << 62 if limit is None else limit) - door.calls_left
        return _Mark(
            time.perf_counter(), made, door.bytes_in, door.bytes_out, door.host_seconds, door.denials,
            self._written(1), self._written(2),
        )  # fmt: skip

    def since(self, mark: _Mark) -> Usage:
        """Return the usage of a call that began at ``mark`` and has ended."""
        now = self.mark()
        self._seconds = now.time - mark.time
        self._measured_until = time.monotonic()
        self._read_store()
        return self._usage(_Mark(now.time - mark.time, *map(sub, now[1:], mark[1:])))

    def tally(self) -> tuple[int | None, int, int]:
        """Return fuel of the latest call, host calls and bytes of memory; see :meth:`aegis.Sandbox.tally`."""
        store, door = self._run.store, self._run.door
        most = door.limits.host_calls
        calls = (1 << 62 if most is None else most) - door.calls_left
        if store is None or not store.take_token():
            return self._fuel, calls, self._memory
        try:
            limit = store.plan.limits.fuel
            return None if limit is None else limit - store.fuel_left(), calls, store.memory_size()
        finally:
            store.token.append(None)

    def total(self) -> Usage:
        """Return the usage so far; fuel and seconds are those of the latest call."""
        self._read_store()
        door = self._run.door
        if door.returned_at > self._measured_until:  # a call that no observer measured
            self._seconds = max(0.0, door.returned_at - door.entered_at)
        return self._usage(self.mark()._replace(time=self._seconds))

    def _usage(self, mark: _Mark) -> Usage:
        return Usage(
            fuel=self._fuel,
            seconds=mark.time,
            host_seconds=mark.host_seconds if self._run.observed else None,
            host_calls=mark.host_calls,
            bytes_in=mark.bytes_in,
            bytes_out=mark.bytes_out,
            peak_memory=self._memory,
            denials=mark.denials,
            stdout=mark.stdout,
            stderr=mark.stderr,
        )

    def _read_store(self) -> None:
        """Read fuel and memory of the store. A memory never shrinks, so its present size is its peak."""
        store = self._run.store
        if store is not None:
            with suppress(SandboxStateError), store.held():  # if it is busy or closing, the last values remain
                self.keep(store)

    def keep(self, store: Store) -> None:
        """Record fuel and memory of a store, whose token the caller has or which is about to be closed."""
        limit = store.plan.limits.fuel
        self._fuel = None if limit is None else limit - store.fuel_left()
        size = store.memory_size()
        if size > self._memory:
            before, self._memory = self._memory, size
            if self._bus.active:
                from aegis.observe.events import MemoryGrew

                self._bus.emit(MemoryGrew, before=before, after=size)

    def _written(self, stream: int) -> int:
        grants = self._run.grants
        return grants.stdio.written(stream) if grants is not None else self._count[stream]

    def output(self, stream: int) -> bytes:
        """Return the captured bytes of stdout (1) or stderr (2)."""
        grants = self._run.grants
        if grants is None:
            return self._output[stream]
        return grants.stdio.stdout_bytes() if stream == 1 else grants.stdio.stderr_bytes()

    def keep_output(self, grants: Grants) -> None:
        """Record the output of grants that are about to be closed; there is none if no stream was acquired."""
        stdio = grants.acquired_stdio
        if stdio is not None:
            self._keep_stdio(stdio)

    def _keep_stdio(self, stdio: Stdio) -> None:
        self._output = {1: stdio.stdout_bytes(), 2: stdio.stderr_bytes()}
        self._count = {1: stdio.written(1), 2: stdio.written(2)}
        self.undelivered = stdio.failure()

    # -- events --------------------------------------------------------------------------------

    def watch(self, door: Door, denied: Callable[[Decision], None] | None) -> None:
        """Publish the door's host calls, decisions and log lines on the bus, and pass denials to ``denied``."""
        active = door.listens = self._bus.active

        def decided(decision: Decision) -> None:
            if active:
                self._decided(decision)
            if denied is not None and not decision.allowed:
                denied(decision)

        door.on_decision = decided
        if active:
            door.observe_call = self._called
            door.on_log = self._logged

    def _called(self, module: str, name: str, seconds: float, error: BaseException | None) -> None:
        from aegis.observe.events import HostFunctionCalled

        kind = None if error is None else "host-error"
        if isinstance(error, (AegisError, MemoryFault)):
            kind = GuestTrap.kind if isinstance(error, MemoryFault) else error.kind
        self._bus.emit(HostFunctionCalled, module=module, name=name, seconds=seconds, ok=error is None, error=kind)

    def _decided(self, decision: Decision) -> None:
        from aegis.observe.events import CapabilityChecked

        self._bus.emit(
            CapabilityChecked, capability=decision.capability, action=decision.action, target=decision.target,
            allowed=decision.allowed, rule=decision.rule,
            remedy=decision.remedy or decision.wanted,  # in a worker, which explains nothing; its parent does
        )  # fmt: skip

    def _logged(self, level: str, message: str) -> None:
        from aegis.observe.events import GuestLogged

        self._bus.emit(GuestLogged, level=level, message=message)

    def loaded(self, module: Artifact) -> None:
        """Publish that a module or component is ready to run."""
        from aegis.observe.events import ModuleLoaded

        self._bus.emit(
            ModuleLoaded, digest=module.digest, artifact=module.kind, size=module.size, cached=module.cached,
            proposals=" ".join(module.proposals),
            seconds=module.seconds,
        )  # fmt: skip

    @contextmanager
    def observing(self, export: object, args: tuple[Any, ...]) -> Iterator[None]:
        """Publish the start, the fuel, the error and the end of one call. A call over columns is one call.

        ``export`` is the name of the function, or a name with the table of its bindings.
        """
        if not self._bus.active:
            yield
            return
        from aegis.observe.events import ErrorRaised, ExecutionStarted

        name = str(export)
        rows = args[0].rows if isinstance(export, Rows) else None
        arguments = len(args) if rows is None else len(args[0].params)
        self._bus.emit(ExecutionStarted, function=name, arguments=arguments, rows=rows)
        mark = self.mark()
        try:
            yield
        except AegisError as error:
            outcome = Outcome.from_error(error)
            if not outcome.ok:
                self._bus.emit(ErrorRaised, error_kind=error.kind, blame=error.blame, message=str(error))
            self._completed(name, mark, outcome)
            raise
        except Err as declared:  # a declared result; that of a program is its failure
            self._completed(name, mark, ended(name, Outcome(value=declared)))
            raise
        self._completed(name, mark, Outcome())

    def _completed(self, name: str, mark: _Mark, outcome: Outcome) -> None:
        from aegis.observe.events import ExecutionCompleted, FuelConsumed

        usage = self.since(mark)
        if usage.fuel is not None:
            self._bus.emit(FuelConsumed, fuel=usage.fuel, limit=self._run.door.limits.fuel)
        self._bus.emit(
            ExecutionCompleted, function=name, status=outcome.status, exit_code=outcome.exit_code,
            seconds=usage.seconds, fuel=usage.fuel, bytes_in=usage.bytes_in, bytes_out=usage.bytes_out,
        )  # fmt: skip
