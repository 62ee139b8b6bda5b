"""What is fuzzed: an artifact under a policy, its exports to be called, its missing imports to be answered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aegis.errors import AegisError, CallError, ExportNotFound, SandboxStateError
from aegis.fuzz.case import Case, Given, Reply, Seen, Step
from aegis.fuzz.stubs import Answers
from aegis.fuzz.values.buffers import Buffer, BufferShape, Place, layout
from aegis.fuzz.values.generate import core_shape, shape_of
from aegis.fuzz.values.shape import Shape, Unfit
from aegis.runtime import is_program
from aegis.text import printable, similar_names
from aegis.values import FuncType
from aegis.wit.results import is_declared, outcome_value
from aegis.wit.types import Borrow, Function, Interface, List, Own, Result, WitType
from aegis.wit.values import Err, ResourceHandle

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.compile.artifact import Module
    from aegis.runtime import Aegis
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["DROP", "EVERY", "PROGRAM", "Subject", "Target"]

DROP = "[drop]"
"""The name of the step that drops a handle."""
PROGRAM: tuple[WitType, ...] = (List("string"), List("u8"))
"""What stands for the arguments of a program: its argument list without its name, and its standard input."""
EVERY = ("*",)
"""Instead of names: every export, a toolchain's own too."""
_TOOLCHAIN = re.compile(r"_initialize$|cabi_|__|asyncify_|exports#init$")
"""Exports that a toolchain made for itself, which only it knows how to call."""
_ALLOCATORS = frozenset({"malloc", "calloc", "realloc", "free", "aligned_alloc"})


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
    program: bool = False
    """Whether it is how a whole program runs; its arguments are then those of :data:`PROGRAM`."""

    @property
    def types(self) -> Sequence[WitType]:
        """The types of its arguments, none for core functions."""
        if self.program:
            return PROGRAM
        return () if self.type is None else [of for _, of in self.type.params]

    def size(self, arguments: Sequence[Any]) -> int:
        """Return the size of arguments, in bytes and elements."""
        return 1 + sum(s.size(a) for s, a in zip(self.shapes, arguments, strict=True) if s is not None)


class Target:
    """An artifact whose exports are called. One thread uses it at a time."""

    def __init__(
        self, runtime: Aegis, artifact: Module | Component, *, functions: Sequence[str] = (), hostile: bool = False,
        overrides: Mapping[Any, Shape] | None = None, buffers: bool = True,
    ) -> None:  # fmt: skip
        self.runtime, self.artifact = runtime, artifact
        self._place = Place(artifact) if buffers and artifact.kind == "module" else None  # type: ignore[arg-type]
        self._overrides = dict(overrides or {})
        self.left_out: dict[str, str] = {}
        """Exports that cannot be generated arguments for, and why."""
        self.subjects = {s.name: s for s in self._subjects(functions)}
        self.answers = Answers(artifact, hostile=hostile)
        self._spent = 0
        """Host calls of the sandbox at hand before the step at hand."""
        self.detailed = False
        """Whether replies hold all that an outcome does, for oracles that look at it."""
        self._initialize = artifact.kind == "module" and artifact.export("_initialize") is not None  # type: ignore[union-attr]

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
        functions = names if tuple(functions) == EVERY else functions
        for wanted in functions:
            if wanted not in names:
                hint = "".join(f"; did you mean {printable(n)}?" for n in similar_names(wanted, names, 1))
                raise ExportNotFound(
                    f"no export is called {printable(wanted)!r}{hint}",
                    name=wanted,
                    near=similar_names(wanted, names, 1),
                )
        found = []
        for name in functions or self._usual(names):
            try:
                found.append(self._subject(name))
            except Unfit as reason:
                self.left_out[name] = str(reason)
        if not found:
            raise CallError(_nothing(self.left_out))
        return found

    def _usual(self, names: Sequence[str]) -> Iterable[str]:
        """Yield the exports that are called unless others are named: not those of a toolchain's own."""
        for name in names:
            own = _ALLOCATORS if self._place is None else _ALLOCATORS | self._place.own
            if _TOOLCHAIN.match(name) or (self.artifact.kind == "module" and name in own):
                self.left_out[name] = "it is its toolchain's own; --invoke calls it all the same"
            else:
                yield name

    def _subject(self, name: str) -> Subject:
        if is_program(name) and self._takes_nothing(name):
            return Subject(name, tuple(shape_of(of, self._overrides) for of in PROGRAM), program=True)
        return self._module(name) if self.artifact.kind == "module" else self._component(name)

    def _takes_nothing(self, name: str) -> bool:
        """Tell whether an export has no parameters; a program's has none, whatever its name is."""
        if self.artifact.kind == "module":
            return not self.artifact.signature(name).params  # type: ignore[union-attr]
        return not _function(self.artifact.exports, name).params  # type: ignore[arg-type]

    def _module(self, name: str) -> Subject:
        module: Any = self.artifact
        kinds = module.signature(name).params if self._place is None else layout(module, name, self._place)
        return Subject(name, tuple(BufferShape() if kind == "buffer" else core_shape(kind) for kind in kinds))

    def _component(self, name: str) -> Subject:
        component: Any = self.artifact
        function = component.with_python_types(_function(component.exports, name))
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

    def held(self, steps: Sequence[Step]) -> dict[int, list[int]]:
        """Return the handles that there are after some steps: for each resource's key the steps that gave them."""
        found: dict[int, list[int]] = {}
        for number, step in enumerate(steps):
            subject = self.subjects.get(step.function)
            places = range(1) if subject is None else subject.consumes
            gone = {a.step for n, a in enumerate(step.arguments) if n in places and isinstance(a, Given)}
            for given in found.values():
                given[:] = [one for one in given if one not in gone]
            if subject is not None and subject.gives is not None:
                found.setdefault(subject.gives, []).append(number)
        return found

    def tidy(self, case: Case) -> Case:
        """Return the case with every handle dropped at its end that it still holds."""
        left = [Step(DROP, (Given(n),)) for given in self.held(case.steps).values() for n in given]
        return Case((*case.steps, *left), case.answers) if left else case

    # -- running -------------------------------------------------------------------------------

    def run(self, case: Case, runtime: Aegis | None = None, told: list[str] | None = None) -> Seen:
        """Run a case in a fresh sandbox. Raise nothing that the guest does. ``told``: gets what imports answered."""
        seen = Seen(case)
        replies = seen.replies
        try:
            sandbox = self._sandbox(case, runtime or self.runtime, told)
        except AegisError as error:
            replies.append(Reply(error=error))
            return seen
        with sandbox:
            _, self._spent, _ = sandbox.tally()
            values: list[Any] = []
            for step in case.steps:
                reply = self._perform(sandbox, step, values)
                replies.append(reply)
                if reply.ended:
                    break
                values.append(reply.value)
        return seen

    def answered(self, case: Case) -> list[str]:
        """Return what the imports answer in a case, each as ``function -> value``."""
        told: list[str] = []
        if self.answers.any:
            self.run(case, told=told)
        return told

    def _sandbox(self, case: Case, runtime: Aegis, told: list[str] | None) -> Sandbox:
        options: dict[str, Any] = {}
        if self.answers.any:
            options["imports"] = self.answers.plan(case.answers, told)
            if self.answers.faults is not None and runtime.policy.isolation is None:
                options["faults"] = self.answers.faults
        first = self.subjects.get(case.steps[0].function) if case.steps else None
        if first is not None and first.program:
            words, stdin = case.steps[0].arguments
            options["args"] = ("program", *(word.replace("\0", "") for word in words))
            options["stdio"] = replace(runtime.policy.stdio, stdin=bytes(stdin))
        sandbox = runtime.sandbox(self.artifact, **options)
        if self._initialize and not (first is not None and (first.program or first.name == "_initialize")):
            try:
                sandbox.call("_initialize")
            except BaseException:
                sandbox.close()
                raise
        return sandbox

    def _perform(self, sandbox: Sandbox, step: Step, values: Sequence[Any]) -> Reply:
        """Do one step, whose handles are among ``values``, what the steps before it returned."""
        name, arguments = step
        try:
            if name == DROP:
                handle = values[arguments[0].step]
                if not isinstance(handle, ResourceHandle):
                    raise CallError(f"step {arguments[0].step} gave no handle to drop")
                handle.drop()
                return Reply()
            subject = self.subjects[name]
            if subject.takes:
                arguments = tuple(values[a.step] if isinstance(a, Given) else a for a in arguments)
            elif subject.program:
                arguments = ()
            if self._place and any(isinstance(a, Buffer) for a in arguments):
                with self._place.placed(sandbox, arguments) as raw:
                    return self._called(sandbox, name, raw)
            return self._called(sandbox, name, arguments)
        except Err as declared:
            return self._reply(sandbox, declared, None, declared=True)
        except (CallError, SandboxStateError) as error:
            # A handle that a step was to give, and did not: the case ends here, and nobody is to blame.
            return Reply(error=error)
        except AegisError as error:
            return self._reply(sandbox, None, error)

    def _called(self, sandbox: Sandbox, name: str, arguments: Sequence[Any]) -> Reply:
        if self.detailed:
            outcome = sandbox.run(name, *arguments)
            declared = is_declared(self._result_of(name), outcome.value)
            reply = Reply(outcome.value, outcome.error, *_used(outcome.usage), declared=declared)
            reply.status, reply.whole = outcome.status, outcome
            return reply
        return self._reply(sandbox, outcome_value(self._result_of(name), sandbox.call(name, *arguments)), None)

    def _result_of(self, name: str) -> WitType | None:
        function = self.subjects[name].type
        return None if function is None else function.result

    def _reply(self, sandbox: Sandbox, value: Any, error: AegisError | None, *, declared: bool = False) -> Reply:
        fuel, calls, memory = sandbox.tally()
        before, self._spent = self._spent, calls
        return Reply(value, error, fuel, calls - before, memory, declared=declared)


def _used(usage: Any) -> tuple[int | None, int, int]:
    return usage.fuel, usage.host_calls, usage.peak_memory


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
