"""What is fuzzed: an artifact under a policy, its exports to be called, its missing imports to be answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aegis.errors import AegisError, CallError, ExportNotFound, HostError, SandboxStateError
from aegis.fuzz.case import Case, Given, Seen, Step
from aegis.fuzz.generate import Shape, Unfit, core_shape, shape_of
from aegis.fuzz.hostile import Answers
from aegis.names import near, printable
from aegis.observe.outcome import Outcome
from aegis.values import FuncType
from aegis.wit.types import Borrow, Function, Interface, Own, Result, show

if TYPE_CHECKING:
    from aegis.engine.artifact import Module
    from aegis.engine.component.artifact import Component
    from aegis.runtime import Aegis
    from aegis.sandbox import Sandbox

__all__ = ["Subject", "Target"]

DROP = "drop "
"""Before a resource's key: the name of the step that drops one."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An export that is called: the shapes of its parameters, ``None`` for one that is a handle of the guest's."""

    name: str
    shapes: tuple[Shape | None, ...]
    takes: tuple[int | None, ...] = ()
    """For each parameter the key of the resource that it takes, if it takes one."""
    consumes: tuple[int, ...] = ()
    """The parameters that take their resource for good."""
    gives: int | None = None
    """The key of the resource that it returns, if it returns one."""
    type: Function | None = None

    @property
    def label(self) -> str:
        """The name and type, for people."""
        return f"{printable(self.name)}{'' if self.type is None else show(self.type).removeprefix('func')}"

    def size(self, arguments: Sequence[Any]) -> int:
        """Return the size of arguments, in bytes and elements."""
        return 1 + sum(s.size(a) for s, a in zip(self.shapes, arguments, strict=True) if s is not None)


class Target:
    """An artifact whose exports are called. One thread uses it at a time."""

    def __init__(
        self, runtime: Aegis, artifact: Module | Component, *, functions: Sequence[str] = (), hostile: bool = False,
        overrides: Mapping[Any, Shape] | None = None,
    ) -> None:  # fmt: skip
        self.runtime, self.artifact = runtime, artifact
        self._overrides = dict(overrides or {})
        self.left_out: dict[str, str] = {}
        """Exports that cannot be generated arguments for, and why."""
        self.subjects = {s.name: s for s in self._subjects(functions)}
        self.answers = Answers(artifact, hostile=hostile)

    @property
    def fuel(self) -> int | None:
        """The fuel that one call may burn."""
        return self.runtime.policy.limits.fuel

    @cached_property
    def watched(self) -> Aegis:
        """A runtime that sees how much memory guests have."""
        from aegis.runtime import Aegis

        return Aegis(self.runtime.policy, exact_memory=True)

    # -- what there is to call -----------------------------------------------------------------

    def _subjects(self, functions: Sequence[str]) -> Iterable[Subject]:
        names = _names(self.artifact)
        for wanted in functions:
            if wanted not in names:
                hint = "".join(f"; did you mean {printable(n)}?" for n in near(wanted, names, 1))
                raise ExportNotFound(
                    f"no export is called {printable(wanted)!r}{hint}", name=wanted, near=near(wanted, names, 1)
                )
        found = []
        for name in functions or names:
            try:
                found.append(self._module(name) if self.artifact.kind == "module" else self._component(name))
            except Unfit as reason:
                self.left_out[name] = str(reason)
        if not found:
            raise CallError(_nothing(self.left_out))
        return found

    def _module(self, name: str) -> Subject:
        signature = self.artifact.signature(name)  # type: ignore[union-attr]
        return Subject(name, tuple(core_shape(kind) for kind in signature.params))

    def _component(self, name: str) -> Subject:
        component: Any = self.artifact
        function = component.imaged(_function(component.exports, name))
        shapes, takes, consumes = [], [], []
        for number, (_, of) in enumerate(function.params):
            resource = of.resource if isinstance(of, (Own, Borrow)) else None
            takes.append(None if resource is None else resource.key)
            shapes.append(None if resource is not None else shape_of(of, self._overrides))
            if isinstance(of, Own):
                consumes.append(number)
        given = function.result.ok if isinstance(function.result, Result) else function.result
        return Subject(
            name, tuple(shapes), tuple(takes), tuple(consumes),
            given.resource.key if isinstance(given, Own) else None, function,
        )  # fmt: skip

    # -- running -------------------------------------------------------------------------------

    def run(self, case: Case, runtime: Aegis | None = None) -> Seen:
        """Run a case in a fresh sandbox. Raise nothing that the guest does."""
        seen = Seen(case)
        plan = self.answers.plan(case.answers)
        try:
            sandbox = (runtime or self.runtime).sandbox(self.artifact, imports=plan, measured=True)
        except AegisError as error:
            seen.outcomes.append(Outcome.from_error(error))
            return seen
        with sandbox:
            values: list[Any] = []
            for step in case.steps:
                outcome = perform(sandbox, step, values)
                seen.outcomes.append(outcome)
                values.append(outcome.value)
                if outcome.error is not None:
                    break
        return seen


def perform(sandbox: Sandbox, step: Step, values: Sequence[Any]) -> Outcome:
    """Do one step, whose handles are among ``values``, what the steps before it returned."""
    arguments = [_handle(values, a) if isinstance(a, Given) else a for a in step.arguments]
    try:
        if step.function.startswith(DROP):
            arguments[0].drop()
            return Outcome(usage=sandbox.usage)
        return sandbox.run(step.function, *arguments)
    except (CallError, SandboxStateError, HostError) as error:
        return Outcome.from_error(error)


def _handle(values: Sequence[Any], given: Given) -> Any:
    value = values[given.step] if given.step < len(values) else None
    return value


def _names(artifact: Any) -> list[str]:
    if artifact.kind == "component":
        return list(artifact.callables())
    return [export.name for export in artifact.exports if isinstance(export.type, FuncType)]


def _function(exports: Mapping[str, Interface | Function], name: str) -> Function:
    interface, mark, member = name.rpartition("#")
    found = exports[interface if mark else name]
    return found.functions[member] if isinstance(found, Interface) else found


def _nothing(left_out: Mapping[str, str]) -> str:
    if not left_out:
        return "it exports no function to call"
    reasons = "; ".join(f"{printable(name)}: {reason}" for name, reason in list(left_out.items())[:3])
    return f"none of its functions can be given arguments: {reasons}"
