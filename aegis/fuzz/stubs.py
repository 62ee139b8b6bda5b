"""Stubs for a guest's imports: they return values of the declared types, selected by the answer plan of the test case.

Imports that Aegis does not provide are always stubbed. With ``hostile``, the plan also controls the host's own
functions: 0 calls the function, any other number returns one of its errors or an extreme value of its result type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from aegis.errors import GuestTrap
from aegis.fuzz.values.generate import core_shape, shape_of
from aegis.fuzz.values.shape import CannotGenerate, ValueShape
from aegis.sandbox.link_component import served
from aegis.text import printable
from aegis.values import AnswerStep, FuncType, HostCall
from aegis.wit.collected import collected_type
from aegis.wit.match import unversioned
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Borrow, Function, Interface, Own, Resource, Result, Variant, WitType
from aegis.wit.values import Err
from aegis.wit.wave_read import format_value

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.compile.artifact import Module

__all__ = ["NOTABLE", "AnswerPlan", "ImportStubs", "random_answers", "recording"]

NOTABLE = 64
"""Numbers below this select from a list of distinct small answers; numbers from here on are seeds of random answers."""
_RANDOM_SIZE = 64
"""Size budget of a random answer, in characters, elements and parts."""
_MAX_LOGGED_ANSWERS = 32
_MAX_RECORDED_ANSWERS = 4096
_ERRNOS = 76
"""Number of errno values of WASI preview 1, apart from ``success``."""
_NOT_STUBBED = frozenset({"wasi:io/poll", "wasi:cli/exit", "wasi:clocks/monotonic-clock", "wasi:random/random",
                   "wasi:random/insecure", "wasi:random/insecure-seed"})  # fmt: skip
"""Interfaces whose functions a hostile host does not fake, because a fake answer would violate their specification."""
_LITERAL = re.compile(r"-?[0-9.]+|'[^']*'|inf|nan")
_NOT_STUBBED_CORE = frozenset({"proc_exit", "sched_yield"})


class AnswerPlan:
    """The answer numbers of one test case. The last number is repeated. ``log`` receives the answers as text."""

    __slots__ = ("log", "numbers", "used")

    def __init__(self, numbers: Sequence[int] = (), log: list[str] | None = None) -> None:
        self.numbers, self.used, self.log = numbers, 0, log

    def next(self) -> int:
        """Return the number of the next answer."""
        at, self.used = self.used, self.used + 1
        if not self.numbers:
            return 0
        return self.numbers[min(at, len(self.numbers) - 1)]

    def record(self, name: str, value: Any, of: WitType | None = None) -> None:
        """Append an answer to the log, for the report."""
        if self.log is not None and len(self.log) < _MAX_LOGGED_ANSWERS:
            self.log.append(f"{printable(name, 120)} -> {_shown(value, of)}")


def _shown(value: Any, of: WitType | None) -> str:
    try:
        return printable(repr(value) if of is None else format_value(value, of), 200)
    except Exception:  # a stub resource has no WAVE text
        return printable(type(value).__name__)


def random_answers(rng: Random, *, hostile: bool) -> tuple[int, ...]:
    """Return a random answer plan.

    A hostile plan usually fails one or two calls only: a guest gives up early on a host whose calls all fail.
    """
    if hostile and rng.random() < 0.7:
        early = int(rng.random() ** 2 * 24)
        return (*([0] * early), _number(rng), *([0, _number(rng)] if rng.random() < 0.3 else []), 0)
    return tuple(0 if rng.random() < 0.4 else _number(rng) for _ in range(rng.randint(1, 6)))


def recording(step: AnswerStep | None, answers: list[str]) -> AnswerStep:
    """Return a step that answers as ``step`` does, or as the host itself, and appends each answer as text.

    Answers to core functions are left out: they write most of an answer to memory.
    """

    def answer(call: HostCall) -> Any:
        try:
            value = call.answer() if step is None else step(call)
        except Err as error:
            _append(answers, call, error)
            raise
        _append(answers, call, value)
        return value

    return answer


def _append(answers: list[str], call: HostCall, value: Any) -> None:
    if isinstance(call.type, Function) and len(answers) < _MAX_RECORDED_ANSWERS:
        name = f"{call.interface}#{call.function}" if call.interface else call.function
        answers.append(f"{printable(name, 120)} -> {_shown(value, call.type.result)}")


def _number(rng: Random) -> int:
    return 1 + int(rng.random() * (NOTABLE - 1)) if rng.random() < 0.6 else rng.getrandbits(31)


class _AnswerShape(Protocol):
    """The part of a shape that generates answers."""

    def simplest(self) -> Any: ...
    def random(self, rng: Random, size: int) -> Any: ...


class _AnswerTable:
    """Maps the numbers of an answer plan to values of one type."""

    def __init__(self, shape: _AnswerShape) -> None:
        self.shape = shape
        self._notable: list[int] | None = None

    def value(self, number: int) -> Any:
        """Return the answer that ``number`` selects."""
        if number == 0:
            return self.shape.simplest()
        if number < NOTABLE:
            seeds = self._seeds()
            return self.shape.random(Random(seeds[(number - 1) % len(seeds)]), 4)
        return self.shape.random(Random(number), _RANDOM_SIZE)

    def _seeds(self) -> list[int]:
        """Return seeds of distinct small values: first one of each form (the text without literals), then by length."""
        if self._notable is None:
            found: dict[str, int] = {}
            for seed in range(256):
                found.setdefault(repr(self.shape.random(Random(seed), 4)), seed)
            simplest = repr(self.shape.simplest())
            rank: dict[str, int] = {}
            turns = {}
            for text in sorted((text for text in found if text != simplest), key=lambda text: (len(text), text)):
                form = _LITERAL.sub("", text)
                turns[text] = rank[form] = rank.get(form, -1) + 1
            texts = sorted(turns, key=lambda text: (turns[text], len(text), text))
            self._notable = [found[text] for text in texts[: NOTABLE - 1]] or [0]
        return self._notable


class ImportStubs:
    """Stubs for those imports of an artifact that Aegis does not provide. Not thread-safe."""

    def __init__(self, artifact: Module | Component, *, hostile: bool = False) -> None:
        self._made: dict[str, Any] = {}
        self._classes: dict[int, type] = {}
        self._fault_tables: dict[tuple[str, str], _AnswerTable | None] = {}
        self.now = AnswerPlan()
        """The answer plan of the current sandbox."""
        self.step: AnswerStep | None = self._answer_or_fail if hostile else None
        """The argument ``answer`` of :meth:`Aegis.sandbox`: it answers by the plan. ``None`` unless hostile."""
        if artifact.kind == "module":
            self._of_module(artifact)
        else:
            self._of_component(artifact)

    @property
    def any(self) -> bool:
        """Whether any function consults the answer plan."""
        return bool(self._made) or self.step is not None

    def plan(self, numbers: Sequence[int], log: list[str] | None = None) -> Mapping[str, Any]:
        """Install an answer plan, and return the stubs to pass as ``imports``. They follow the latest plan."""
        self.now = AnswerPlan(numbers, log)
        return self._made

    @property
    def called(self) -> bool:
        """Whether a stub may have been called under the latest plan; constructors of stub resources are not counted."""
        return self.now.used > 0 or bool(self._classes)

    # -- core modules --------------------------------------------------------------------------

    def _of_module(self, module: Any) -> None:
        from aegis.host import offers

        for item in module.imports:
            signature = getattr(item, "type", None)
            if isinstance(signature, FuncType) and offers(item.module, item.name) is None:
                functions = self._made.setdefault(item.module, {})
                functions[item.name] = self._core(f"{item.module}.{item.name}", signature)

    def _core(self, name: str, signature: FuncType) -> Callable[..., Any]:
        tables = [_AnswerTable(core_shape(kind)) for kind in signature.results]

        def answer(*_: Any) -> Any:
            number = self.now.next()
            values = tuple(table.value(number) for table in tables)
            if values:
                self.now.record(name, values[0] if len(values) == 1 else values)
            return None if not values else values[0] if len(values) == 1 else values

        return answer

    # -- components ----------------------------------------------------------------------------

    def _of_component(self, component: Any) -> None:
        wanted = {n: i for n, i in component.imports.items() if served(n) is None}
        wasi = [i for n, i in component.imports.items() if n not in wanted and isinstance(i, Interface)]
        self._provided = {of.key for item in wasi for of in item.types.values() if isinstance(of, Resource)}
        for item in wanted.values():
            if isinstance(item, Interface):
                self._resources(component, item)
        own = {name: item for name, item in wanted.items() if isinstance(item, Function)}
        for name, function in own.items():
            _, mark, rest = name.partition("]")
            if not mark:
                self._made[name] = self._answer(name, component.with_python_types(function))
            else:
                self._free(rest.partition(".")[0], own, component)
        for name, item in wanted.items():
            if isinstance(item, Interface) and item.functions:
                self._made[name] = self._implementation(component, name, item)

    def _resources(self, component: Any, item: Interface) -> None:
        """Create a class for each resource of an interface; its methods are stubs."""
        for name, of in item.types.items():
            if isinstance(of, Resource) and of.key not in self._provided:
                self._classes[of.key] = type(pascal(name), (_StubResource,), {"__doc__": f"A stub of {name}."})
        for name, function in item.functions.items():
            kind, mark, rest = name.partition("]")
            resource, _, own = rest.partition(".")
            found = item.types.get(resource)
            if mark and own and isinstance(found, Resource) and found.key in self._classes:
                answer = self._answer(f"{item.name}#{name}", component.with_python_types(function))
                setattr(self._classes[found.key], snake(own), staticmethod(answer) if kind == "[static" else answer)

    def _free(self, resource: str, own: Mapping[str, Function], component: Any) -> None:
        """Stub a resource that the world itself declares, as one class under the resource's name."""
        if resource in self._made:
            return
        cls = type(pascal(resource), (_StubResource,), {})
        for function in own.values():
            for of in (*(of for _, of in function.params), function.result):
                if isinstance(of, (Own, Borrow)) and of.resource.name == resource:
                    self._classes[of.resource.key] = cls
        for name, function in own.items():
            kind, _, rest = name.partition("]")
            owner, _, method = rest.partition(".")
            if owner == resource and method:
                answer = self._answer(name, component.with_python_types(function))
                setattr(cls, snake(method), staticmethod(answer) if kind == "[static" else answer)
        self._made[resource] = cls

    def _implementation(self, component: Any, interface: str, item: Interface) -> Any:
        body: dict[str, Any] = {}
        for name, function in item.functions.items():
            if not name.startswith("["):
                body[snake(name)] = staticmethod(
                    self._answer(f"{interface}#{name}", component.with_python_types(function))
                )
        for name, of in item.types.items():
            if isinstance(of, Resource) and of.key in self._classes:
                body[pascal(name)] = self._classes[of.key]
        return type("StubInterface", (), body)()

    def _answer(self, name: str, function: Function) -> Callable[..., Any]:
        result = None if function.result is None else collected_type(function.result)
        table = None if result is None else _answer_table(result, self._classes)

        def answer(*_: Any) -> Any:
            number = self.now.next()
            if table is None:
                if result is None:
                    return None
                raise GuestTrap(
                    f"the result of {printable(name)} cannot be generated: it contains a handle of another interface",
                    code="missing-import",
                )
            value = table.value(number)
            self.now.record(name, value, result)
            if isinstance(function.result, Result) and isinstance(value, Err):
                raise value
            return value

        return answer

    # -- faults of the host's own functions ------------------------------------------------------

    def _answer_or_fail(self, call: HostCall) -> Any:
        """Return or raise the planned fault of a host function, or let the function itself answer."""
        module, name, of = call.interface, call.function, call.type
        if module in self._made or name in self._made:
            return call.answer()
        number = self.now.next()
        if number == 0:
            return call.answer()
        if isinstance(of, FuncType):
            if of.results != ("i32",) or name in _NOT_STUBBED_CORE:
                return call.answer()
            value: Any = 1 + (number - 1) % _ERRNOS
            self.now.record(f"{module}.{name}", value)
            return value
        table = self._fault_table(module, name, of)
        if table is None:
            return call.answer()
        value = table.value(number)
        fails = isinstance(of.result, Result)
        result = None if of.result is None else collected_type(of.result)
        answer = Err(value) if isinstance(result, Result) else value  # also the value of a future
        self.now.record(f"{module}#{name}", answer, result)
        if fails:
            raise answer
        return answer

    def _fault_table(self, module: str, name: str, of: Function) -> _AnswerTable | None:
        key = module, name
        if key not in self._fault_tables:
            result = None if unversioned(module) in _NOT_STUBBED else of.result
            self._fault_tables[key] = None if result is None else _fault_table(result)
        return self._fault_tables[key]


class _StubResource:
    """Base class of stub resources; the constructor ignores its arguments."""

    def __init__(self, *_: Any) -> None:
        pass


class _NewResource:
    """The shape of a stub resource: every value is a new object."""

    def __init__(self, cls: type) -> None:
        self.cls = cls

    def simplest(self) -> Any:
        return self.cls()

    def random(self, rng: Random, size: int) -> Any:
        return self.cls()

    def mutate(self, rng: Random, value: Any) -> Any:
        return self.cls()

    def simpler(self, value: Any) -> Iterator[Any]:
        return iter(())

    def size(self, value: Any) -> int:
        return 1


class _HandleOverrides(dict[Any, Any]):
    """Overrides for :func:`shape_of` that generate ``own`` handles of stub resources."""

    def __init__(self, classes: Mapping[int, type]) -> None:
        super().__init__({"": None})
        self.classes = classes

    def __contains__(self, key: object) -> bool:
        return isinstance(key, Own)

    def __getitem__(self, key: Any) -> Any:
        if key.resource.key not in self.classes:
            raise CannotGenerate(f"no stub for resource {printable(key.resource.name)}")
        return _NewResource(self.classes[key.resource.key])


def _answer_table(of: WitType, classes: Mapping[int, type]) -> _AnswerTable | None:
    try:
        return _AnswerTable(shape_of(of, _HandleOverrides(classes)))
    except CannotGenerate:
        return None


def _fault_table(result: WitType) -> _AnswerTable | None:
    """Return the faults of a function with this result type: its errors, or extreme values if it has no error case.

    A list stands for a stream, which ends early, and a value for a future, which has an error at times.
    """
    result = collected_type(result)
    try:
        if not isinstance(result, Result):
            return _AnswerTable(shape_of(result))
        if isinstance(result.err, Variant):
            return _AnswerTable(_ErrorVariant(result.err))
        return None if result.err is None else _AnswerTable(_ErrorValue(shape_of(result.err)))
    except CannotGenerate:
        return None


class _ErrorValue:
    """The shape of an error payload. Number 0 never reaches it, so ``simplest`` is a placeholder."""

    def __init__(self, shape: ValueShape) -> None:
        self.shape = shape

    def simplest(self) -> Any:
        return None

    def random(self, rng: Random, size: int) -> Any:
        return self.shape.random(rng, size)


class _ErrorVariant:
    """The shape of an error variant, without the cases whose payload contains a handle."""

    def __init__(self, of: Variant) -> None:
        self.made: list[tuple[Any, ValueShape | None]] = []
        for cls, (_, payload) in zip(of.python or (), of.cases, strict=True):
            try:
                self.made.append((cls, None if payload is None else shape_of(payload)))
            except CannotGenerate:
                continue
        if not self.made:
            raise CannotGenerate("every case of the error variant contains a handle")

    def simplest(self) -> Any:
        return None

    def random(self, rng: Random, size: int) -> Any:
        cls, shape = self.made[int(rng.random() * len(self.made))]
        return cls() if shape is None else cls(shape.random(rng, size))
