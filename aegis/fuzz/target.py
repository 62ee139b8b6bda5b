"""The target of a campaign: an artifact under a policy, its callable exports, and stubs for its missing imports."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aegis.errors import AegisError, CallError, ExportNotFound, PolicyError, SandboxStateError
from aegis.fuzz.case import Case, HandleRef, Step, StepResult, Trace
from aegis.fuzz.program_words import GivenWords
from aegis.fuzz.source_lines import SourceLines
from aegis.fuzz.stubs import ImportStubs, recording
from aegis.fuzz.values.bodies import Bodies
from aegis.fuzz.values.buffers import PLACED, GuestAllocator, layout
from aegis.fuzz.values.core_signatures import BufferShape, OutShape, Parameter, read_signature
from aegis.fuzz.values.generate import core_shape, shape_of
from aegis.fuzz.values.shape import CannotGenerate, ValueShape
from aegis.sandbox.programs import is_program
from aegis.text import printable, similar_names
from aegis.values import FuncType
from aegis.wit.collected import collected, collected_type
from aegis.wit.results import is_declared
from aegis.wit.types import Borrow, Function, Future, Interface, List, Own, Result, Stream, WitType, children, has_ends
from aegis.wit.values import Err, Ok, ResourceHandle

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.compile.artifact import Module
    from aegis.fuzz.dictionary import Dictionary
    from aegis.runtime import Aegis
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["DROP", "EVERY", "PROGRAM", "Target", "TargetExport"]

DROP = "[drop]"
"""The name of the step that drops a handle."""
PROGRAM: tuple[WitType, ...] = (List("string"), List("u8"))
"""The generated arguments of a program: its command-line arguments, without the program name, and its stdin."""
_MAX_READ_ELEMENTS = 1 << 16
"""Elements, or bytes, that are read of a stream in a result; the test case ends at a longer one."""
_HURRY = 64
"""The divisor of the limits in :attr:`Target.hurried`."""
EVERY = ("*",)
"""As ``functions``: every export, including those of the toolchain."""
_TOOLCHAIN = re.compile(
    r"_initialize$|cabi_|__|asyncify_|exports#init$|stack(Save|Restore|Alloc)$|dynCall_|_?emscripten_|_embind_"
    r"|setThrew$|[gs]etTempRet0$"
)
"""Exports that a toolchain adds for its own use. They have preconditions that the fuzzer does not know."""
_NUMBERS = frozenset({"i32", "i64", "f32", "f64"})
_ALLOCATORS = frozenset({"malloc", "calloc", "realloc", "free", "aligned_alloc"})


MISSING_HANDLE = StepResult(error=CallError("an earlier step did not return the handle that this step needs"))
"""The result of a step that was skipped, because an earlier step failed. The test case goes on after it."""


@dataclass(frozen=True, slots=True)
class TargetExport:
    """A callable export of the target. ``shapes`` has one shape per parameter, ``None`` for a guest handle."""

    name: str
    shapes: tuple[ValueShape | None, ...]
    takes: tuple[int | None, ...] = ()
    """For each parameter, the key of the resource it takes, or ``None``."""
    consumes: tuple[int, ...] = ()
    """The positions of parameters of type ``own``: the call moves the handle."""
    gives: int | None = None
    """The key of the resource that the export returns, or ``None``."""
    type: Function | None = None
    fallible: bool = False
    """Whether the type of the result has an error case."""
    kinds: tuple[Any, ...] = ()
    """The type of each parameter, as far as it decides its shape."""
    returns: WitType | None = None
    """The type of the returned value, without the error case; ``None`` for core functions, and for handles."""
    addresses: bool = False
    """Whether the core function reads or writes memory at numbers that the fuzzer chooses at random."""
    program: bool = False
    """Whether the export runs a whole program, such as ``_start``. Its arguments are then those of :data:`PROGRAM`."""

    @property
    def types(self) -> Sequence[WitType]:
        """The WIT types of the arguments; empty for core functions."""
        if self.program:
            return PROGRAM
        return () if self.type is None else [collected_type(of) for _, of in self.type.params]

    def size(self, arguments: Sequence[Any]) -> int:
        """Return the size of arguments: characters, bytes, elements and parts, plus 1."""
        return 1 + sum(s.size(a) for s, a in zip(self.shapes, arguments, strict=True) if s is not None)


class Target:
    """An artifact whose exports the fuzzer calls. Not thread-safe.

    ``functions`` names the exports to call: empty for all except those of the toolchain, :data:`EVERY` for all.
    Some arguments are entries of the ``dictionary``. ``allocator`` and ``signatures`` describe a core module, and
    exports that match a pattern in ``skip`` are not called. Raise :class:`~aegis.errors.ExportNotFound` for an unknown
    name, and :class:`~aegis.errors.CallError` if no export can be called.
    """

    def __init__(
        self, runtime: Aegis, artifact: Module | Component, *, functions: Sequence[str] = (), hostile: bool = False,
        overrides: Mapping[Any, ValueShape] | None = None, buffers: bool = True, dictionary: Dictionary | None = None,
        programs: Sequence[Sequence[str]] = (), allocator: str = "", signatures: Sequence[str] = (),
        skip: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.runtime, self.artifact = runtime, artifact
        if artifact.kind != "module" and (allocator or signatures):
            raise PolicyError("--allocator and --signature are for core modules: the types of a component say it all")
        self._allocator = GuestAllocator(artifact, allocator) if buffers and artifact.kind == "module" else None  # type: ignore[arg-type]
        self._signatures = dict(read_signature(text, dictionary) for text in signatures)
        self._skip = tuple(skip)
        self.notes: list[str] = []
        """What the user should know about how the exports are called."""
        self._overrides = dict(overrides or {})
        self.dictionary = dictionary
        self._programs = programs
        self.left_out: dict[str, str] = {}
        """Exports that are not called, with the reason."""
        self.exports = {s.name: s for s in self._exports(functions)}
        self._take_handles = {s.name for s in self.exports.values() if any(key is not None for key in s.takes)}
        results = {s.name: s.type.result for s in self.exports.values() if s.type is not None}
        self._with_ends = {name: of for name, of in results.items() if of is not None and has_ends(of)}
        """The types of the results that contain streams or futures, by export."""
        self._nested = {name for name, of in results.items() if isinstance(of, Result) and isinstance(of.ok, Result)}
        """The exports whose returned value is itself a ``result``."""
        self._note_addresses()
        self.stubs = ImportStubs(artifact, hostile=hostile)
        self._tally: Callable[[], tuple[int | None, int, int]]
        """Reads what the current sandbox has used."""
        self._host_calls_before = 0
        """Host calls of the current sandbox before the current step."""
        self._has_imports = bool(artifact.imports)
        self._plain = frozenset(filter(self._is_plain, self.exports))
        """The exports that take the arguments of a step as they are, and whose value is that of the call."""
        self.detailed = False
        """Whether step results carry a complete outcome; user predicates need it, and it costs time."""
        self._initialize = artifact.kind == "module" and artifact.reactor  # type: ignore[union-attr]

    @cached_property
    def lines(self) -> SourceLines:
        """The source lines of the guest's code, from its debugging information."""
        return SourceLines(self.artifact.binary)

    @property
    def fuel(self) -> int | None:
        """The fuel limit of one call."""
        return self.runtime.policy.limits.fuel

    @cached_property
    def watched(self) -> Aegis:
        """A runtime with exact memory accounting, which slows down calls."""
        from aegis.runtime import Aegis

        return Aegis(self.runtime.policy, exact_memory=True)

    @cached_property
    def hurried(self) -> Aegis:
        """A runtime with a small part of the fuel, host calls and handles, for exports that are known not to end."""
        from aegis.runtime import Aegis

        limits = self.runtime.policy.limits
        less = {
            name: max(1, most // _HURRY)
            for name in ("fuel", "host_calls", "handles")
            if (most := getattr(limits, name))
        }
        return Aegis(replace(self.runtime.policy, limits=limits.with_(**less)))

    @cached_property
    def counting(self) -> Aegis:
        """A runtime that also knows each growth of a memory that the limit refused."""
        from aegis.runtime import Aegis

        return Aegis(self.runtime.policy, exact_memory="all")

    @cached_property
    def grows(self) -> bool:
        """Whether a memory or table of the guest can grow."""
        tables = getattr(getattr(self.artifact, "info", None), "tables", ())
        return any(m.minimum != m.maximum for m in (*self.artifact.memories(1 << 16), *tables))

    # -- callable exports ----------------------------------------------------------------------

    def _exports(self, functions: Sequence[str]) -> Iterable[TargetExport]:
        names = _names(self.artifact)
        functions = names if tuple(functions) == EVERY else functions
        for wanted in functions:
            if wanted not in names:
                hint = "".join(f": did you mean {printable(n)}?" for n in similar_names(wanted, names, 1))
                raise ExportNotFound(
                    f"no export {printable(wanted)!r}{hint}", name=wanted, near=similar_names(wanted, names, 1)
                )
        found = []
        for pattern in self._skip:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ExportNotFound(f"--skip {printable(pattern)}: no export has this name", name=pattern)
        for name in functions or self._usual(names):
            if any(fnmatchcase(name, pattern) for pattern in self._skip):
                self.left_out[name] = "skipped by --skip"
                continue
            try:
                found.append(self._export(name))
            except CannotGenerate as reason:
                self.left_out[name] = str(reason)
        if not found:
            raise CallError(_nothing(self.left_out))
        return found

    def _is_plain(self, name: str) -> bool:
        """Return whether a step needs no preparation, and its value none either."""
        export = self.exports[name]
        if export.program or name in self._take_handles or name in self._with_ends or name in self._nested:
            return False
        return not self._allocator or _NUMBERS.issuperset(export.kinds)

    def _usual(self, names: Sequence[str]) -> Iterable[str]:
        """Yield the exports that are called by default: all except those of the toolchain."""
        for name in names:
            own = _ALLOCATORS if self._allocator is None else _ALLOCATORS | self._allocator.own
            if _TOOLCHAIN.match(name) or (self.artifact.kind == "module" and name in own):
                self.left_out[name] = f"internal to the toolchain: to call it, pass --invoke {printable(name)}"
            else:
                yield name

    def _export(self, name: str) -> TargetExport:
        if is_program(name) and self._takes_nothing(name):
            words, stdin = map(self._shape, PROGRAM)
            return TargetExport(name, (GivenWords(self._programs) if self._programs else words, stdin), program=True)
        return self._module(name) if self.artifact.kind == "module" else self._component(name)

    def _shape(self, of: WitType) -> ValueShape:
        return shape_of(of, self._overrides, self.dictionary)

    def _takes_nothing(self, name: str) -> bool:
        """Return whether an export has no parameters, as the entry point of a program must."""
        if self.artifact.kind == "module":
            return not self.artifact.signature(name).params  # type: ignore[union-attr]
        return not _function(self.artifact.exports, name).params  # type: ignore[arg-type]

    def _module(self, name: str) -> TargetExport:
        module: Any = self.artifact
        given = module.signature(name).params
        described = self._signatures.get(name)
        if described is not None:
            return self._described(name, described, given)
        allocator = self._allocator
        kinds = given if allocator is None else layout(module, name, allocator)
        shapes = tuple(BufferShape(self.dictionary) if k == "buffer" else core_shape(k, self.dictionary) for k in kinds)
        bodies = Bodies(module) if allocator is None else allocator.bodies
        addresses = bodies.takes_address(name, kinds)
        return TargetExport(name, shapes, kinds=tuple(kinds), addresses=addresses)

    def _described(self, name: str, described: Sequence[Parameter], given: Sequence[str]) -> TargetExport:
        """Return an export whose parameters the user described."""
        types = tuple(kind for parameter in described for kind in parameter.types)
        if types != tuple(given):
            raise PolicyError(
                f"--signature {printable(name)}: it stands for ({', '.join(types)}), but the export takes "
                f"({', '.join(given)})"
            )
        if not self._allocator and any(isinstance(p.shape, (BufferShape, OutShape)) for p in described):
            raise PolicyError(
                f"--signature {printable(name)}: the module has no known allocator: name one with --allocator"
            )
        return TargetExport(name, tuple(p.shape for p in described), kinds=tuple(p.kind for p in described))

    def _note_addresses(self) -> None:
        """Note the exports whose addresses are random, and signatures of functions that are not exported."""
        for name in self._signatures:
            if name not in _names(self.artifact):
                raise ExportNotFound(f"--signature {printable(name)}: no export has this name", name=name)
        random = [name for name, export in self.exports.items() if export.addresses]
        if random:
            shown = ", ".join(map(printable, random[:6])) + (f" and {len(random) - 6} more" if len(random) > 6 else "")
            remedy = "describe it with --signature 'NAME(cstr, buffer, out u32)'"
            if not self._allocator:
                remedy = "name the allocator with --allocator NAME,FREE, and " + remedy
            self.notes.append(
                f"addresses are random in calls of {shown}, so their traps count as one finding, the last: {remedy}"
            )

    def _component(self, name: str) -> TargetExport:
        component: Any = self.artifact
        function = component.with_python_types(_function(component.exports, name))
        shapes, takes, consumes = [], [], []
        for number, (_, of) in enumerate(function.params):
            resource = of.resource if isinstance(of, (Own, Borrow)) else None
            takes.append(None if resource is None else resource.key)
            shapes.append(None if resource is not None else self._shape(collected_type(of)))
            if isinstance(of, Own):
                consumes.append(number)
        given = function.result.ok if isinstance(function.result, Result) else function.result
        return TargetExport(
            name, tuple(shapes), tuple(takes), tuple(consumes),
            given.resource.key if isinstance(given, Own) else None, function,
            fallible=isinstance(function.result, Result), kinds=tuple(of for _, of in function.params),
            returns=None if given is None or _has_handles(given) else given,
        )  # fmt: skip

    def held(self, steps: Sequence[Step]) -> dict[int, list[int]]:
        """Return the live handles after ``steps``: by resource key, the numbers of the steps that returned them."""
        found: dict[int, list[int]] = {}
        for number, step in enumerate(steps):
            export = self.exports.get(step.function)
            places = range(1) if export is None else export.consumes
            gone = {a.step for n, a in enumerate(step.arguments) if n in places and isinstance(a, HandleRef)}
            for given in found.values():
                given[:] = [one for one in given if one not in gone]
            if export is not None and export.gives is not None:
                found.setdefault(export.gives, []).append(number)
        return found

    def tidy(self, case: Case) -> Case:
        """Return the test case with a drop appended for every handle that is still live at its end."""
        left = [Step(DROP, (HandleRef(n),)) for given in self.held(case.steps).values() for n in given]
        return Case((*case.steps, *left), case.answers) if left else case

    # -- running -------------------------------------------------------------------------------

    def run(
        self, case: Case, runtime: Aegis | None = None, log: list[str] | None = None, host: list[str] | None = None, *,
        read: Collection[int] | None = None,
    ) -> Trace:  # fmt: skip
        """Run a test case in a fresh sandbox; failures of the guest are results, not exceptions.

        ``runtime`` replaces the target's own. ``log`` receives the answers of the import stubs as text, and ``host``
        all answers of host functions to the calls of components. ``read`` are the numbers of the steps whose result
        has what they used, ``None`` for all steps; the result of another one may have only its value.
        """
        trace = Trace(case)
        try:
            sandbox = self._sandbox(case, runtime or self.runtime, log, host)
        except AegisError as error:
            trace.results.append(StepResult(error=error))
            return trace
        with sandbox:
            self._tally = sandbox.tally_reader()
            self._host_calls_before = self._tally()[1] if self._has_imports else 0
            self._perform_all(sandbox, case.steps, trace.results, read, self._watcher(sandbox))
        return trace

    def _perform_all(
        self, sandbox: Sandbox, steps: Sequence[Step], results: list[StepResult], read: Collection[int] | None,
        watch: Callable[[], object] | None,
    ) -> None:  # fmt: skip
        """Run steps and append their results, until one of them ends the guest; call ``watch`` after each."""
        call, tally, plain = sandbox.call, self._tally, () if self.detailed else self._plain
        add = results.append
        for number, step in enumerate(steps):
            name = step[0]
            if name in plain:  # as _perform() does for any step, with as little as possible for each call
                try:
                    value = call(name, *step[1])
                except (Err, AegisError) as error:
                    result = self._failed(error)
                else:
                    if read is None or number in read:
                        fuel, calls, memory = tally()
                        result = StepResult(value, None, fuel, calls - self._host_calls_before, memory)
                        self._host_calls_before = calls
                    else:
                        result = StepResult(value)
            else:
                result = self._perform(sandbox, step, results)
            add(result)
            if watch is not None:
                watch()
            if result.status != "returned" and result is not MISSING_HANDLE:
                break

    def _watcher(self, sandbox: Sandbox) -> Callable[[], object] | None:
        """Return a function that is called after each step of a test case, for subclasses."""
        return None

    def answered(self, case: Case) -> list[str]:
        """Run a test case and return the answers of its import stubs, each as ``function -> value``."""
        log: list[str] = []
        if self.stubs.any:
            self.run(case, log=log)
        return log

    def _sandbox(self, case: Case, runtime: Aegis, log: list[str] | None, host: list[str] | None = None) -> Sandbox:
        options: dict[str, Any] = {}
        if self.stubs.any:
            options["imports"] = self.stubs.plan(case.answers, log)
            if self.stubs.step is not None:
                options["answer"] = self.stubs.step
        if host is not None:
            options["answer"] = recording(options.get("answer"), host)
        first = self.exports.get(case.steps[0].function) if case.steps else None
        if first is not None and first.program:
            words, stdin = case.steps[0].arguments
            options["args"] = ("program", *(word.replace("\0", "") for word in words))
            options["stdio"] = replace(runtime.policy.stdio, stdin=bytes(stdin))
        sandbox = runtime.sandbox(self.artifact, **options)
        if self._initialize and not (first is not None and (first.program or first.name == "_initialize")):
            try:
                sandbox.call("_initialize")  # apart from the first step, so that its usage is not that of the step
            except BaseException:
                sandbox.close()
                raise
        return sandbox

    def _perform(self, sandbox: Sandbox, step: Step, results: Sequence[StepResult]) -> StepResult:
        """Run one step. ``results`` are those of the earlier steps; handle references refer to their values."""
        name, arguments = step
        try:
            if name == DROP:
                handle = results[arguments[0].step].value
                if not isinstance(handle, ResourceHandle):
                    return MISSING_HANDLE
                handle.drop()
                return StepResult()
            export = self.exports[name]
            if name in self._take_handles:
                for argument in arguments:
                    if isinstance(argument, HandleRef) and not isinstance(results[argument.step].value, ResourceHandle):
                        return MISSING_HANDLE
                arguments = tuple(results[a.step].value if isinstance(a, HandleRef) else a for a in arguments)
            elif export.program:
                arguments = ()
            if self._allocator and any(isinstance(a, PLACED) for a in arguments):
                with self._allocator.placed(sandbox, arguments) as raw:
                    return self._called(sandbox, name, raw)
            return self._called(sandbox, name, arguments)
        except (Err, AegisError) as error:
            return self._failed(error)

    def _failed(self, error: Err[Any] | AegisError) -> StepResult:
        """Return the result of a step that raised an error."""
        if isinstance(error, Err):
            return self._step_result(error, None, declared=True)
        if isinstance(error, (CallError, SandboxStateError)):
            # An earlier step did not return the handle this step needs; stop the case without reporting a finding.
            return StepResult(error=error)
        return self._step_result(None, error)

    def _called(self, sandbox: Sandbox, name: str, arguments: Sequence[Any]) -> StepResult:
        if self.detailed:
            outcome = sandbox.run(name, *arguments)
            declared = is_declared(self._result_of(name), outcome.value)
            value = outcome.value if outcome.error is not None else self._read(name, outcome.value)
            result = StepResult(value, outcome.error, *_used(outcome.usage), declared=declared)
            result.status, result.whole = outcome.status, outcome
            return result
        value = sandbox.call(name, *arguments)
        if name in self._nested:
            value = Ok(value)
        return self._step_result(self._read(name, value) if name in self._with_ends else value, None)

    def _read(self, name: str, value: Any) -> Any:
        """Read the streams and futures of a result to their ends, which runs the guest on."""
        of = self._with_ends.get(name)
        return value if of is None else collected(value, of, _MAX_READ_ELEMENTS)

    def _result_of(self, name: str) -> WitType | None:
        function = self.exports[name].type
        return None if function is None else function.result

    def _step_result(self, value: Any, error: AegisError | None, *, declared: bool = False) -> StepResult:
        fuel, calls, memory = self._tally()
        before, self._host_calls_before = self._host_calls_before, calls
        return StepResult(value, error, fuel, calls - before, memory, declared=declared)


def _has_handles(of: WitType) -> bool:
    return isinstance(of, (Own, Borrow, Stream, Future)) or any(map(_has_handles, children(of)))


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
        return "the artifact exports no function"
    reasons = "; ".join(f"{printable(name)}: {reason}" for name, reason in list(left_out.items())[:3])
    return f"no exported function can be called: {reasons}"
