"""Run one input through all phases: describe, load, instantiate, call and so on; the guest runs in a worker process.

For each phase, ``_DOCUMENTED`` lists the errors that the documentation of the called API allows. Any other error is a
fault of Aegis, and so is a phase that exceeds its time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache, partial
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from aegis.attack.engines import EngineComparison
from aegis.attack.hostile_streams import HostileStreams
from aegis.attack.inputs import AttackInput
from aegis.attack.smith import OPTIONAL_KIND
from aegis.attack.triage import Fault, coarse, fault_of
from aegis.attack.watch import GrantedFolder, ResourceWatch
from aegis.component.planning.artifact import Component
from aegis.engine.compile.artifact import Module
from aegis.engine.compile.config import OPTIONAL, EngineConfig
from aegis.engine.store.memory_accounting import available
from aegis.errors import (
    AegisError,
    ArtifactError,
    CallError,
    DeadlineExceeded,
    GuestError,
    HostError,
    LinkError,
    MemoryExceeded,
    WorkerCrashed,
)
from aegis.fuzz.stubs import ImportStubs
from aegis.fuzz.target import EVERY, Target, TargetExport
from aegis.limits import MIB, Limits
from aegis.policy import FilesystemCapability, Isolation, NetworkCapability, Policy, StdioCapability
from aegis.runtime import Aegis
from aegis.sandbox.artifacts import validate_artifact
from aegis.sandbox.link_component import unprovided_by_host
from aegis.sandbox.link_module import unprovided
from aegis.sandbox.programs import is_program
from aegis.values import FuncType
from aegis.wasm.binary import ModuleInfo, is_component
from aegis.wasm.caps import engine_caps
from aegis.wit.types import Result
from aegis.wit.values import Err
from aegis.wit.wave_read import format_value
from aegis.wit.wit_write import world_text

if TYPE_CHECKING:
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["LIMITS", "Bounds", "Harness", "TrialResult"]

_Value = TypeVar("_Value")
_NUMBERS = {"i32", "i64", "f32", "f64"}
_NO_FUNCTION = re.compile(r"is the type of a function|is a type, nothing that can be called")
_MAX_SANDBOXES, _MAX_CALLS = 3, 12
"""Most sandboxes of one input, and most calls in each."""
_DOCUMENTED: Mapping[str, tuple[type[BaseException], ...]] = {
    "describe": (ArtifactError, LinkError, MemoryExceeded),
    "load": (ArtifactError, DeadlineExceeded, MemoryExceeded),
    "world": (),
    "plan": (CallError,),
    "instantiate": (ArtifactError, LinkError, GuestError),
    "call": (GuestError, Err),
    "show": (),
    "drop": (GuestError,),
    "close": (),
    "compare": (),
}
_INPUTS_PER_COMPARISON = 4
"""One input in so many is compiled by all compilers."""
_ADDRESS = re.compile("0x[0-9a-f]+")
_LIMIT_STATUSES = ("timeout", "quota-exceeded", "memory-exceeded", "stack-exhausted")
"""Statuses of exceeded limits; calls that pass through the host reach a limit sooner than direct ones."""
LIMITS = Limits().with_(
    memory=16 * MIB, fuel=5_000_000, timeout=1.0, stdout=64 << 10, stderr=64 << 10, disk_written=MIB, host_calls=10_000,
    host_bytes=8 * MIB, value_bytes=8 * MIB,
)  # fmt: skip
"""The limits of guests in an attack: low, so that many inputs are run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of a trial, in seconds and bytes."""

    compile_time: float = 5.0
    compile_memory: int = 512 * MIB
    grace: float = 0.1
    slack: float = 10.0
    """Seconds by which a phase may exceed its time before it counts as late: the machine may be loaded."""
    patience: float = 90.0
    """Seconds after which a process that is running one input counts as hung."""


@dataclass(slots=True)
class TrialResult:
    """The result of one input: how each phase ended, the faults, and the time in seconds."""

    endings: list[tuple[str, str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0


class Harness:
    """Runs inputs. Its runtimes are created once per process, and their guests run in worker processes."""

    def __init__(self, bounds: Bounds | None = None, limits: Limits = LIMITS) -> None:
        self.bounds, self.limits = bounds or Bounds(), limits
        self.watch = ResourceWatch()
        self.on_phase: Callable[[str], None] = lambda phase: None
        """Called with the name of each phase when it begins."""
        self._stack = ExitStack()
        self._granted: tuple[Aegis, GrantedFolder] | None = None
        options = Isolation(
            workers=2, recycle=1000, compile_time=self.bounds.compile_time, compile_memory=self.bounds.compile_memory,
            overhead=128 * MIB, grace=self.bounds.grace,
        )  # fmt: skip
        self.policy = Policy(
            limits=limits,
            isolation=options,
            stdio=StdioCapability(stdin=b"line\n\0\xff", stdout="capture", stderr="capture"),
        )
        self.runtime = self._stack.enter_context(Aegis(self.policy, cache=False))
        self.optional = self._stack.enter_context(Aegis(replace(self.policy, proposals=tuple(OPTIONAL)), cache=False))
        """A runtime with every proposal that a policy can enable."""
        self.engines = cache(lambda: EngineComparison(self.policy))
        """The runtimes of other compilers, made when the first input is compared."""
        here = replace(self.policy, isolation=None, limits=limits.with_(fuel=None, timeout=0.3))
        self.in_process = self._stack.enter_context(Aegis(here, cache=False))
        """Runs guests in process and without fuel: only then do component instances call each other directly."""

    def close(self) -> None:
        """Stop the worker processes."""
        self._stack.close()

    def run(self, one: AttackInput) -> TrialResult:
        """Run one input. Errors are recorded in the result, not raised."""
        trial = _Trial(self, one)
        began = time.monotonic()
        trial.go()
        trial.result.seconds = time.monotonic() - began
        return trial.result

    def granted(self) -> tuple[Aegis, GrantedFolder]:
        """Return a runtime that grants a directory and a network address, and reset the directory."""
        if self._granted is None:
            folder = GrantedFolder()
            policy = replace(
                self.policy, filesystem=FilesystemCapability.read_write(f"{folder.path}::/work"),
                network=NetworkCapability(allow=["tcp://127.0.0.1:1", "udp://127.0.0.1:1"]),
            )  # fmt: skip
            self._granted = self._stack.enter_context(Aegis(policy, cache=False)), folder
        self._granted[1].renew()
        return self._granted


class _Trial:
    """The run of one input on a harness."""

    compared: list[tuple[str, str]] | None = None
    """Statuses of failed phases and values of calls, for the comparison with another trial; ``None`` if not needed."""

    def __init__(self, harness: Harness, one: AttackInput) -> None:
        self.harness, self.input = harness, one
        self.result = TrialResult()
        self.rng = Random(f"turn {one.turn}")
        self.granted: GrantedFolder | None = None
        self.streams: HostileStreams | None = None
        """The streams that are passed to the current sandbox, if they are hostile."""
        optional = one.label.endswith(OPTIONAL_KIND) or one.turn % 8 == 1
        self.runtime = harness.optional if optional else harness.runtime

    def go(self) -> None:
        bounds, data = self.harness.bounds, self.input.data
        self._phase("describe", bounds.compile_time, lambda: self._describe(data))
        if self.input.turn % 4 == 3:
            self.runtime, self.granted = self.harness.granted()
        artifact = self._phase("load", bounds.compile_time, lambda: self.runtime.load(data, "the input"))
        if artifact is None:
            return
        if isinstance(artifact, Component):
            self._phase("world", 1.0, lambda: world_text(artifact.imports, artifact.exports))
        target = self._phase("plan", 1.0, lambda: self._target(artifact))
        stubs = self._phase("plan", 1.0, lambda: ImportStubs(artifact)) if target is None else target.stubs
        if stubs is not None:
            self._exercise(artifact, target, stubs)
        if self.input.source == "liar" and isinstance(artifact, Component):
            self._compare_links(data)
        if self.input.turn % _INPUTS_PER_COMPARISON == 2:
            self._compare_engines(data)
        if self.granted is not None and (changed := self.granted.escaped()):
            self.result.faults.append(Fault(phase="call", kind="escape", type="", place="", text=changed))

    def _compare_engines(self, data: bytes) -> None:
        """Report a fault if code of another compiler behaves differently (the oracle ``engine-agrees``)."""
        engines = self.harness.engines()
        allowed = len(engines.runtimes) * self.harness.bounds.compile_time
        text = self._phase("compare", allowed, lambda: engines.disagreement(data, self.input.turn))
        if text is not None:
            kind = text.rpartition(" ")[2]
            self.result.faults.append(
                Fault(phase="call", kind="engines-differ", type=kind, place="", text=f"engine-agrees: {text[:300]}")
            )

    def _compare_links(self, data: bytes) -> None:
        """Run a component in process with direct calls between its instances, and with calls through the host.

        Report a fault if the two runs differ.
        """
        runtime = self.harness.in_process
        component: Any = runtime.load(data, "the input")
        if not component.linked:
            return
        runs: list[list[tuple[str, str]]] = []
        for direct in (True, False):
            if not direct:
                component.unlink()
            trial = _Trial(self.harness, self.input)
            trial.runtime, trial.compared = runtime, []
            runs.append(trial.compared)
            target = trial._phase("plan", 1.0, partial(trial._target, component))
            if target is None:
                return
            trial._exercise(component, target, target.stubs)
            self.result.faults += trial.result.faults
        for one, other in zip(*runs, strict=False):
            if one[0] in _LIMIT_STATUSES or other[0] in _LIMIT_STATUSES:
                return  # calls through the host count against limits, so the runs may differ from here on
            if one != other:
                text = f"linked directly it ended with {one}, through the host with {other}"
                self.result.faults.append(Fault(phase="call", kind="differs", type="", place="", text=text[:300]))
                return

    # -- phases --------------------------------------------------------------------------------

    def _phase(self, phase: str, allowed: float, work: Callable[[], _Value]) -> _Value | None:
        """Run one phase, and record its ending and faults. Return the value of ``work()``, or ``None`` if it raised."""
        began, result = time.monotonic(), self.result
        value: _Value | None = None
        self.harness.on_phase(phase)
        try:
            value = work()
            result.endings.append((phase, "returned", ""))
            if phase == "call" and self.compared is not None:
                self.compared.append(("returned", _ADDRESS.sub("", repr(value))))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            status = error.kind if isinstance(error, AegisError) else type(error).__name__
            result.endings.append((phase, status, coarse(str(error))))
            if self.compared is not None:
                self.compared.append((status, ""))
            if not self._documented(phase, error):
                result.faults.append(fault_of(phase, error))
        took, most = time.monotonic() - began, allowed + self.harness.bounds.grace + self.harness.bounds.slack
        if took > most:
            text = f"phase {phase} exceeded its time ({took:.1f} s/{allowed:.1f} s)"
            result.faults.append(Fault(phase=phase, kind="late", type="", place="", text=text))
        return value

    def _documented(self, phase: str, error: BaseException) -> bool:
        if self.streams is not None and phase in ("instantiate", "call") and isinstance(error, self.streams.documented):
            return True
        if isinstance(error, (HostError, WorkerCrashed)):
            return False
        if isinstance(error, CallError) and _NO_FUNCTION.search(str(error)):
            return phase == "call"  # an export may turn out to be a function type only after instantiation
        return isinstance(error, _DOCUMENTED[phase])

    def _describe(self, data: bytes) -> None:
        """Do the work of ``aegis inspect`` and ``aegis validate --strict``.

        That compiles a component in this process, so only one component in three is described.
        """
        limits = self.harness.limits
        if is_component(data) and self.input.turn % 3:
            return
        config = EngineConfig.from_limits(limits, proposals=self.runtime.policy.proposals)
        info = validate_artifact(data, limits, config, "the input")
        if isinstance(info, ModuleInfo):
            for item in (*info.imports, *info.exports, *info.memories, *info.tables):
                str(getattr(item, "type", item))
            unprovided(info.imports)
            engine_caps("module", info.memories, info.tables, limits, counted=available(), starts=info.has_start)
        else:
            unprovided_by_host(info)
            world_text(info.imports, info.exports)
            memories, tables = info.structure.memories(1 << 16), info.structure.tables(1 << 16)
            engine_caps("component", memories, tables, limits, counted=available(), starts=info.starts())

    # -- the guest -----------------------------------------------------------------------------

    def _target(self, artifact: Any) -> Target:
        """Return the target: all exports, for a module those whose results are numbers; buffers are not used."""
        functions: tuple[str, ...] = EVERY
        if isinstance(artifact, Module):
            kinds = {e.name: e.type for e in artifact.exports if isinstance(e.type, FuncType)}
            functions = tuple(name for name, of in kinds.items() if _callable(name, of))
            if not functions:
                raise CallError("no export has numbers as results")
        return Target(self.runtime, artifact, functions=functions, buffers=False)

    def _exercise(self, artifact: Any, target: Target | None, stubs: ImportStubs) -> None:
        """Call each export once, in new sandboxes as calls end them, within bounds."""
        exports = [] if target is None else list(target.exports.values())
        timeout = self.harness.limits.timeout or 0.0
        for _ in range(_MAX_SANDBOXES):
            plan = [0 if self.rng.random() < 0.5 else self.rng.getrandbits(16) for _ in range(4)]
            sandbox = self._phase("instantiate", timeout, lambda plan=plan: self._sandbox(artifact, stubs, plan))  # type: ignore[misc]
            if sandbox is None:
                return
            exports = self._calls(sandbox, exports)
            self._phase("close", timeout, sandbox.close)
            if self.streams is not None and (left := self.streams.left_open()):
                self.result.faults.append(Fault(phase="close", kind="left-open", type="", place="", text=left))
            if not exports:
                return

    def _sandbox(self, artifact: Any, stubs: ImportStubs, plan: Sequence[int]) -> Sandbox:
        imports: Any = stubs.plan(plan)
        if self.input.source == "tasks":
            self.streams = HostileStreams(self.rng)
            imports = self.streams.imports(imports, artifact.imports)
        return self.runtime.sandbox(artifact, imports=imports, args=("program", "word", "\u20ac"), trap_missing=True)

    def _calls(self, sandbox: Sandbox, exports: Sequence[TargetExport]) -> list[TargetExport]:
        """Call exports until the sandbox ends. Return the exports that remain to be called."""
        held: dict[int | None, list[Any]] = {}
        timeout = self.harness.limits.timeout or 0.0
        for number, export in enumerate(exports[:_MAX_CALLS]):
            arguments = self._arguments(export, held)
            if arguments is None:
                continue
            value = self._phase("call", timeout, lambda s=export, a=arguments: sandbox.call(s.name, *a))  # type: ignore[misc]
            if sandbox.state != "ready":
                return list(exports[number + 1 :])
            if value is not None and export.gives is not None:
                held.setdefault(export.gives, []).append(value)
            elif value is not None and export.type is not None:
                self._phase("show", 1.0, lambda v=value, s=export: _shown(v, s))  # type: ignore[misc]
                if self.streams is not None:
                    self._read(sandbox, value, export.type.result)
                    if sandbox.state != "ready":
                        return list(exports[number + 1 :])
        for handle in (h for some in held.values() for h in some[::2]):
            self._phase("drop", timeout, handle.drop)
        return []

    def _read(self, sandbox: Sandbox, value: Any, of: Any) -> None:
        """Read the streams in a result, which runs the guest."""
        streams = self.streams
        assert streams is not None
        self._phase("call", self.harness.limits.timeout or 0.0, lambda: streams.consume(value, of))

    def _arguments(self, export: TargetExport, held: dict[int | None, list[Any]]) -> list[Any] | None:
        """Return random arguments, or ``None`` if a required handle is missing."""
        if export.program:
            return []
        made: list[Any] = []
        for place, shape in enumerate(export.shapes):
            if shape is not None:
                made.append(shape.random(self.rng, 1 + int(2 ** (self.rng.random() * 9))))
                if self.streams is not None and export.type is not None:
                    made[-1] = self.streams.value(made[-1], export.type.params[place][1])
                continue
            some = held.get(export.takes[place])
            if not some:
                return None
            made.append(some.pop() if place in export.consumes else some[-1])
        given = [id(one) for one, key in zip(made, export.takes, strict=False) if key is not None]
        return made if len(given) == len(set(given)) else None  # no handle may be used twice in a call


def _callable(name: str, of: FuncType) -> bool:
    """Return whether Python can call a core function. Programs such as ``_start`` must have no parameters."""
    return set(of.results) <= _NUMBERS and not (is_program(name) and of.params)


def _shown(value: Any, export: TargetExport) -> str:
    """Format a result in WAVE, as the command line does."""
    assert export.type is not None
    result = export.type.result
    if isinstance(result, Result):
        result = result.ok
    return "" if result is None else format_value(value, result)
