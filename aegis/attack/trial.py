"""One input, run: described, loaded, instantiated, called, all of it in worker processes; and how each phase ended.

Documented are the errors that a phase may end with by the documentation of what it calls. Anything else is a fault of
Aegis, and so is what takes longer than it may.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from aegis.attack.inputs import Input
from aegis.attack.triage import Fault, coarse, fault_of
from aegis.attack.watch import Granted, Watch
from aegis.component.planning.artifact import Component
from aegis.component.shims.adapters import unlink
from aegis.engine.compile.artifact import Module
from aegis.engine.compile.config import EngineConfig
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
from aegis.fuzz.stubs import Answers
from aegis.fuzz.target import EVERY, Subject, Target
from aegis.limits import MIB, Limits
from aegis.policy import FilesystemCapability, Isolation, NetworkCapability, Policy, StdioCapability
from aegis.runtime import Aegis, is_program
from aegis.sandbox.artifacts import validate_artifact
from aegis.sandbox.link_component import unprovided_by_host
from aegis.sandbox.link_module import unprovided
from aegis.values import FuncType
from aegis.wasm.binary import ModuleInfo
from aegis.wasm.fit import check_fit
from aegis.wit.text import world_text
from aegis.wit.types import Result
from aegis.wit.values import Err
from aegis.wit.wave import format_value

if TYPE_CHECKING:
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["LIMITS", "Bench", "Bounds", "Verdict"]

_Value = TypeVar("_Value")
_NUMBERS = {"i32", "i64", "f32", "f64"}
_NO_FUNCTION = re.compile(r"is the type of a function|is a type, nothing that can be called")
_STARTS, _CALLS = 3, 12
"""Sandboxes of one input, and calls."""
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
}
_ADDRESS = re.compile("0x[0-9a-f]+")
_BOUNDS = ("timeout", "quota-exceeded", "memory-exceeded", "stack-exhausted")
"""Ends by limits, which calls through the host reach sooner."""
LIMITS = Limits().with_(
    memory=16 * MIB, fuel=5_000_000, timeout=1.0, stdout=64 << 10, stderr=64 << 10, disk_written=MIB, host_calls=10_000,
    host_bytes=8 * MIB, value_bytes=8 * MIB,
)  # fmt: skip
"""What a guest of the attack may use: little, so that many are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a trial may take, in seconds and bytes."""

    compile_time: float = 5.0
    compile_memory: int = 512 * MIB
    grace: float = 0.1
    slack: float = 10.0
    """How much later than it should something may end before it is late: other programs run here too."""
    patience: float = 90.0
    """After how long a process that runs one input hangs."""


@dataclass(slots=True)
class Verdict:
    """What came of one input: phases with how they ended, faults, and how long it took."""

    endings: list[tuple[str, str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0


class Bench:
    """Where inputs are run: runtimes, made once a process, whose guests run in worker processes."""

    def __init__(self, bounds: Bounds | None = None, limits: Limits = LIMITS) -> None:
        self.bounds, self.limits = bounds or Bounds(), limits
        self.watch = Watch()
        self.told: Callable[[str], None] = lambda phase: None
        """Is told each phase as it begins."""
        self._stack = ExitStack()
        self._granted: tuple[Aegis, Granted] | None = None
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
        here = replace(self.policy, isolation=None, limits=limits.with_(fuel=None, timeout=0.3))
        self.linking = self._stack.enter_context(Aegis(here, cache=False))
        """Runs guests in this process and without fuel: only so are there calls between instances without the host."""

    def close(self) -> None:
        """End its workers."""
        self._stack.close()

    def run(self, one: Input) -> Verdict:
        """Run one input; raise nothing that it does."""
        trial = _Trial(self, one)
        began = time.monotonic()
        trial.go()
        trial.verdict.seconds = time.monotonic() - began
        return trial.verdict

    def granted(self) -> tuple[Aegis, Granted]:
        """Return a runtime with a folder and a network address granted, the folder made anew."""
        if self._granted is None:
            folder = Granted()
            policy = replace(
                self.policy, filesystem=FilesystemCapability.read_write(f"{folder.path}::/work"),
                network=NetworkCapability(allow=["tcp://127.0.0.1:1", "udp://127.0.0.1:1"]),
            )  # fmt: skip
            self._granted = self._stack.enter_context(Aegis(policy, cache=False)), folder
        self._granted[1].renew()
        return self._granted


class _Trial:
    """One input on a bench."""

    told: list[tuple[str, str]] | None = None
    """How phases ended that did not return, and what calls gave that did: where it is compared with another trial."""

    def __init__(self, bench: Bench, one: Input) -> None:
        self.bench, self.input = bench, one
        self.verdict = Verdict()
        self.rng = Random(f"turn {one.turn}")
        self.granted: Granted | None = None
        self.runtime = bench.runtime

    def go(self) -> None:
        bounds, data = self.bench.bounds, self.input.data
        self._phase("describe", bounds.compile_time, lambda: self._describe(data))
        if self.input.turn % 4 == 3:
            self.runtime, self.granted = self.bench.granted()
        artifact = self._phase("load", bounds.compile_time, lambda: self.runtime.load(data, "the input"))
        if artifact is None:
            return
        if isinstance(artifact, Component):
            self._phase("world", 1.0, lambda: world_text(artifact.imports, artifact.exports))
        target = self._phase("plan", 1.0, lambda: self._target(artifact))
        answers = self._phase("plan", 1.0, lambda: Answers(artifact)) if target is None else target.answers
        if answers is not None:
            self._exercise(artifact, target, answers)
        if self.input.source == "liar" and isinstance(artifact, Component):
            self._compare(data)
        if self.granted is not None and (changed := self.granted.escaped()):
            self.verdict.faults.append(Fault(phase="call", kind="escape", type="", place="", text=changed))

    def _compare(self, data: bytes) -> None:
        """Run a component whose instances call each other here, by adapters and through the host: both end alike."""
        runtime = self.bench.linking
        component: Any = runtime.load(data, "the input")
        if not any(component.links.values()):
            return
        ways: list[list[tuple[str, str]]] = []
        for way in ("linked", "through the host"):
            if way != "linked":
                unlink(component)
            trial = _Trial(self.bench, self.input)
            trial.runtime, trial.told = runtime, []
            ways.append(trial.told)
            target = trial._phase("plan", 1.0, partial(trial._target, component))
            if target is None:
                return
            trial._exercise(component, target, target.answers)
            self.verdict.faults += trial.verdict.faults
        for one, other in zip(*ways, strict=False):
            if one[0] in _BOUNDS or other[0] in _BOUNDS:
                return  # the host charges for what passes through it
            if one != other:
                text = f"linked it ended with {one}, and through the host with {other}"
                self.verdict.faults.append(Fault(phase="call", kind="differs", type="", place="", text=text[:300]))
                return

    # -- phases --------------------------------------------------------------------------------

    def _phase(self, phase: str, allowed: float, work: Callable[[], _Value]) -> _Value | None:
        """Do one thing; note how it ended, and what is wrong with that. Return its value, ``None`` for no good end."""
        began, verdict = time.monotonic(), self.verdict
        value: _Value | None = None
        self.bench.told(phase)
        try:
            value = work()
            verdict.endings.append((phase, "returned", ""))
            if phase == "call" and self.told is not None:
                self.told.append(("returned", _ADDRESS.sub("", repr(value))))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            status = error.kind if isinstance(error, AegisError) else type(error).__name__
            verdict.endings.append((phase, status, coarse(str(error))))
            if self.told is not None:
                self.told.append((status, ""))
            if not self._documented(phase, error):
                verdict.faults.append(fault_of(phase, error))
        took, most = time.monotonic() - began, allowed + self.bench.bounds.grace + self.bench.bounds.slack
        if took > most:
            text = f"{phase} took {took:.1f} s, and may take {allowed:.1f} s"
            verdict.faults.append(Fault(phase=phase, kind="late", type="", place="", text=text))
        return value

    def _documented(self, phase: str, error: BaseException) -> bool:
        if isinstance(error, (HostError, WorkerCrashed)):
            return False
        if isinstance(error, CallError) and _NO_FUNCTION.search(str(error)):
            return phase == "call"  # an export may be the type of a function, which instantiation alone tells
        return isinstance(error, _DOCUMENTED[phase])

    def _describe(self, data: bytes) -> None:
        """Do what ``aegis inspect`` and ``aegis validate --strict`` do; a component is compiled for it, here."""
        limits = self.bench.limits
        if data[6:8] == b"\1\0" and self.input.turn % 3:
            return
        info = validate_artifact(data, limits, EngineConfig.from_limits(limits), "the input")
        if isinstance(info, ModuleInfo):
            for item in (*info.imports, *info.exports, *info.memories, *info.tables):
                str(getattr(item, "type", item))
            unprovided(info.imports)
            check_fit("module", info.memories, info.tables, limits, counted=available(), starts=info.has_start)
        else:
            unprovided_by_host(info)
            world_text(info.imports, info.exports)
            memories, tables = info.anatomy.memories(1 << 16), info.anatomy.tables(1 << 16)
            check_fit("component", memories, tables, limits, counted=available(), starts=info.starts())

    # -- the guest -----------------------------------------------------------------------------

    def _target(self, artifact: Any) -> Target:
        """Return what there is to call: what gives Python something that it can hold, with numbers as they are."""
        functions: tuple[str, ...] = EVERY
        if isinstance(artifact, Module):
            kinds = {e.name: e.type for e in artifact.exports if isinstance(e.type, FuncType)}
            functions = tuple(name for name, of in kinds.items() if _callable(name, of))
            if not functions:
                raise CallError("it exports no function of numbers")
        return Target(self.runtime, artifact, functions=functions, buffers=False)

    def _exercise(self, artifact: Any, target: Target | None, answers: Answers) -> None:
        """Call each export, in as many sandboxes as it takes, within bounds."""
        subjects = [] if target is None else list(target.subjects.values())
        timeout = self.bench.limits.timeout or 0.0
        for _ in range(_STARTS):
            plan = [0 if self.rng.random() < 0.5 else self.rng.getrandbits(16) for _ in range(4)]
            sandbox = self._phase("instantiate", timeout, lambda plan=plan: self._sandbox(artifact, answers, plan))  # type: ignore[misc]
            if sandbox is None:
                return
            subjects = self._calls(sandbox, subjects)
            self._phase("close", timeout, sandbox.close)
            if not subjects:
                return

    def _sandbox(self, artifact: Any, answers: Answers, plan: Sequence[int]) -> Sandbox:
        return self.runtime.sandbox(
            artifact, imports=answers.plan(plan), args=("program", "word", "\u20ac"), trap_missing=True
        )

    def _calls(self, sandbox: Sandbox, subjects: Sequence[Subject]) -> list[Subject]:
        """Call what can be called until the sandbox takes no more; return what is left to call."""
        held: dict[int | None, list[Any]] = {}
        timeout = self.bench.limits.timeout or 0.0
        for number, subject in enumerate(subjects[:_CALLS]):
            arguments = self._arguments(subject, held)
            if arguments is None:
                continue
            value = self._phase("call", timeout, lambda s=subject, a=arguments: sandbox.call(s.name, *a))  # type: ignore[misc]
            if sandbox.state != "ready":
                return list(subjects[number + 1 :])
            if value is not None and subject.gives is not None:
                held.setdefault(subject.gives, []).append(value)
            elif value is not None and subject.type is not None:
                self._phase("show", 1.0, lambda v=value, s=subject: _shown(v, s))  # type: ignore[misc]
        for handle in (h for some in held.values() for h in some[::2]):
            self._phase("drop", timeout, handle.drop)
        return []

    def _arguments(self, subject: Subject, held: dict[int | None, list[Any]]) -> list[Any] | None:
        """Return arguments, ``None`` where a handle is needed that nothing gave."""
        if subject.program:
            return []
        made: list[Any] = []
        for place, shape in enumerate(subject.shapes):
            if shape is not None:
                made.append(shape.random(self.rng, 1 + int(2 ** (self.rng.random() * 9))))
                continue
            some = held.get(subject.takes[place])
            if not some:
                return None
            made.append(some.pop() if place in subject.consumes else some[-1])
        given = [id(one) for one, key in zip(made, subject.takes, strict=False) if key is not None]
        return made if len(given) == len(set(given)) else None  # a handle that is given away is in one place only


def _callable(name: str, of: FuncType) -> bool:
    """Tell whether Python can call a core function; a program takes no arguments."""
    return set(of.results) <= _NUMBERS and not (is_program(name) and of.params)


def _shown(value: Any, subject: Subject) -> str:
    """Write a result as the command line does."""
    assert subject.type is not None
    result = subject.type.result
    if isinstance(result, Result):
        result = result.ok
    return "" if result is None else format_value(value, result)
