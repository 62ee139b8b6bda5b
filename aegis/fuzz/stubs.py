"""What a guest's imports answer in a campaign: values of their types, by a plan that shrinks with the case.

What nobody provides is answered by the plan alone. With ``hostile`` the host's own functions are asked through it
too: 0 is their own answer, anything else an error that they may give, or an extreme value of their type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from aegis.errors import GuestTrap
from aegis.fuzz.values.generate import core_shape, shape_of
from aegis.fuzz.values.shape import Shape, Unfit
from aegis.sandbox.link_component import served
from aegis.text import printable
from aegis.values import FuncType
from aegis.wit.match import unversioned
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Borrow, Function, Interface, Own, Resource, Result, Variant, WitType
from aegis.wit.values import Err
from aegis.wit.wave import format_value

if TYPE_CHECKING:
    from aegis.component.planning.artifact import Component
    from aegis.engine.compile.artifact import Module

__all__ = ["NOTABLE", "Answers", "Plan", "numbers"]

NOTABLE = 64
"""Numbers below this choose among notable answers, the shortest first; others are seeds of random ones."""
_SIZE = 64
_TOLD = 32
_ERRNOS = 76
_KEPT = frozenset({"wasi:io/poll", "wasi:cli/exit", "wasi:clocks/monotonic-clock", "wasi:random/random",
                   "wasi:random/insecure", "wasi:random/insecure-seed"})  # fmt: skip
"""What a host may not answer otherwise without breaking what the interface promises."""
_LITERAL = re.compile(r"-?[0-9.]+|'[^']*'|inf|nan")
_KEPT_CORE = frozenset({"proc_exit", "sched_yield"})


class Plan:
    """The numbers of one case, taken in order; the last serves all that follow. ``told``: what was answered."""

    __slots__ = ("numbers", "told", "used")

    def __init__(self, numbers: Sequence[int] = (), told: list[str] | None = None) -> None:
        self.numbers, self.used, self.told = numbers, 0, told

    def next(self) -> int:
        """Return the number of the next answer."""
        at, self.used = self.used, self.used + 1
        if not self.numbers:
            return 0
        return self.numbers[min(at, len(self.numbers) - 1)]

    def tell(self, name: str, value: Any, of: WitType | None = None) -> None:
        """Keep an answer for whoever reads the report."""
        if self.told is not None and len(self.told) < _TOLD:
            self.told.append(f"{printable(name, 120)} -> {_shown(value, of)}")


def _shown(value: Any, of: WitType | None) -> str:
    try:
        return printable(repr(value) if of is None else format_value(value, of), 200)
    except Exception:  # a handle of ours has no text
        return printable(type(value).__name__)


def numbers(rng: Random, *, hostile: bool) -> tuple[int, ...]:
    """Return a plan at random. A hostile one fails once or twice: a host that always does is soon given up."""
    if hostile and rng.random() < 0.7:
        early = int(rng.random() ** 2 * 24)
        return (*([0] * early), _number(rng), *([0, _number(rng)] if rng.random() < 0.3 else []), 0)
    return tuple(0 if rng.random() < 0.4 else _number(rng) for _ in range(rng.randint(1, 6)))


def _number(rng: Random) -> int:
    return 1 + int(rng.random() * (NOTABLE - 1)) if rng.random() < 0.6 else rng.getrandbits(31)


class _Makes(Protocol):
    """The part of a shape that answers are made with."""

    def simplest(self) -> Any: ...
    def random(self, rng: Random, size: int) -> Any: ...


class _Chosen:
    """What the numbers of a plan mean for one type."""

    def __init__(self, shape: _Makes) -> None:
        self.shape = shape
        self._notable: list[int] | None = None

    def value(self, number: int) -> Any:
        """Return the answer of a number."""
        if number == 0:
            return self.shape.simplest()
        if number < NOTABLE:
            seeds = self._seeds()
            return self.shape.random(Random(seeds[(number - 1) % len(seeds)]), 4)
        return self.shape.random(Random(number), _SIZE)

    def _seeds(self) -> list[int]:
        """Return the seeds of distinct small values: one of each form first, then those with the shortest text."""
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


class Answers:
    """The imports of an artifact that nobody provides. One thread uses it at a time."""

    def __init__(self, artifact: Module | Component, *, hostile: bool = False) -> None:
        self._made: dict[str, Any] = {}
        self._classes: dict[int, type] = {}
        self._chosen: dict[tuple[str, str], _Chosen | None] = {}
        self.now = Plan()
        """The plan of the sandbox that runs."""
        self.faults = self._fault if hostile else None
        """For ``Aegis.sandbox(faults=…)``: asks the plan before each function of the host's own."""
        if artifact.kind == "module":
            self._of_module(artifact)
        else:
            self._of_component(artifact)

    @property
    def any(self) -> bool:
        """Whether there is something to answer."""
        return bool(self._made) or self.faults is not None

    def plan(self, numbers: Sequence[int], told: list[str] | None = None) -> Mapping[str, Any]:
        """Begin a plan, and return the imports that answer by it until the next one is begun."""
        self.now = Plan(numbers, told)
        return self._made

    # -- core modules --------------------------------------------------------------------------

    def _of_module(self, module: Any) -> None:
        from aegis.host import offers

        for item in module.imports:
            signature = getattr(item, "type", None)
            if isinstance(signature, FuncType) and offers(item.module, item.name) is None:
                functions = self._made.setdefault(item.module, {})
                functions[item.name] = self._core(f"{item.module}.{item.name}", signature)

    def _core(self, name: str, signature: FuncType) -> Callable[..., Any]:
        chosen = [_Chosen(core_shape(kind)) for kind in signature.results]

        def answer(*_: Any) -> Any:
            number = self.now.next()
            values = tuple(one.value(number) for one in chosen)
            if values:
                self.now.tell(name, values[0] if len(values) == 1 else values)
            return None if not values else values[0] if len(values) == 1 else values

        return answer

    # -- components ----------------------------------------------------------------------------

    def _of_component(self, component: Any) -> None:
        wanted = {n: i for n, i in component.imports.items() if served(n) is None}
        ours = [i for n, i in component.imports.items() if n not in wanted and isinstance(i, Interface)]
        self._provided = {of.key for item in ours for of in item.types.values() if isinstance(of, Resource)}
        for item in wanted.values():
            if isinstance(item, Interface):
                self._resources(component, item)
        own = {name: item for name, item in wanted.items() if isinstance(item, Function)}
        for name, function in own.items():
            _, mark, rest = name.partition("]")
            if not mark:
                self._made[name] = self._answer(name, component.imaged(function))
            else:
                self._free(rest.partition(".")[0], own, component)
        for name, item in wanted.items():
            if isinstance(item, Interface) and item.functions:
                self._made[name] = self._implementation(component, name, item)

    def _resources(self, component: Any, item: Interface) -> None:
        """Make a class for each resource of an interface, whose objects answer its methods."""
        for name, of in item.types.items():
            if isinstance(of, Resource) and of.key not in self._provided:
                self._classes[of.key] = type(pascal(name), (_Thing,), {"__doc__": f"Stands for a {name} of the host."})
        for name, function in item.functions.items():
            kind, mark, rest = name.partition("]")
            resource, _, own = rest.partition(".")
            found = item.types.get(resource)
            if mark and own and isinstance(found, Resource) and found.key in self._classes:
                answer = self._answer(f"{item.name}#{name}", component.imaged(function))
                setattr(self._classes[found.key], snake(own), staticmethod(answer) if kind == "[static" else answer)

    def _free(self, resource: str, own: Mapping[str, Function], component: Any) -> None:
        """Provide a resource of the world's own, by its name, as one class."""
        if resource in self._made:
            return
        cls = type(pascal(resource), (_Thing,), {})
        for function in own.values():
            for of in (*(of for _, of in function.params), function.result):
                if isinstance(of, (Own, Borrow)) and of.resource.name == resource:
                    self._classes[of.resource.key] = cls
        for name, function in own.items():
            kind, _, rest = name.partition("]")
            owner, _, method = rest.partition(".")
            if owner == resource and method:
                answer = self._answer(name, component.imaged(function))
                setattr(cls, snake(method), staticmethod(answer) if kind == "[static" else answer)
        self._made[resource] = cls

    def _implementation(self, component: Any, interface: str, item: Interface) -> Any:
        body: dict[str, Any] = {}
        for name, function in item.functions.items():
            if not name.startswith("["):
                body[snake(name)] = staticmethod(self._answer(f"{interface}#{name}", component.imaged(function)))
        for name, of in item.types.items():
            if isinstance(of, Resource) and of.key in self._classes:
                body[pascal(name)] = self._classes[of.key]
        return type("Hostile", (), body)()

    def _answer(self, name: str, function: Function) -> Callable[..., Any]:
        result = function.result
        chosen = None if result is None else _chosen(result, self._classes)

        def answer(*_: Any) -> Any:
            number = self.now.next()
            if chosen is None:
                if result is None:
                    return None
                raise GuestTrap(f"nothing can stand for what {printable(name)} gives", code="missing-import")
            value = chosen.value(number)
            self.now.tell(name, value, result)
            if isinstance(result, Result) and isinstance(value, Err):
                raise value
            return value

        return answer

    # -- the host's own functions ----------------------------------------------------------------

    def _fault(self, module: str, name: str, of: Any, answer: Callable[[], Any]) -> Any:
        """Answer a call of the host's own by the plan, or have the host answer it."""
        if module in self._made or name in self._made:
            return answer()
        number = self.now.next()
        if number == 0:
            return answer()
        if isinstance(of, FuncType):
            if of.results != ("i32",) or name in _KEPT_CORE:
                return answer()
            value: Any = 1 + (number - 1) % _ERRNOS
            self.now.tell(f"{module}.{name}", value)
            return value
        chosen = self._chosen_fault(module, name, of)
        if chosen is None:
            return answer()
        value = chosen.value(number)
        fails = isinstance(of.result, Result)
        self.now.tell(f"{module}#{name}", Err(value) if fails else value, of.result)
        if fails:
            raise Err(value)
        return value

    def _chosen_fault(self, module: str, name: str, of: Function) -> _Chosen | None:
        key = module, name
        if key not in self._chosen:
            self._chosen[key] = None if unversioned(module) in _KEPT or of.result is None else _fault(of.result)
        return self._chosen[key]


class _Thing:
    """Stands for a resource of the host's."""

    def __init__(self, *_: Any) -> None:
        pass


class _Fresh:
    """The shape of a host resource that a guest is given: a new one each time."""

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


class _Handles(dict[Any, Any]):
    """Overrides that give handles of the host's resources."""

    def __init__(self, classes: Mapping[int, type]) -> None:
        super().__init__({"": None})
        self.classes = classes

    def __contains__(self, key: object) -> bool:
        return isinstance(key, Own)

    def __getitem__(self, key: Any) -> Any:
        if key.resource.key not in self.classes:
            raise Unfit(f"{printable(key.resource.name)} is a resource of the host's own, or of nobody's")
        return _Fresh(self.classes[key.resource.key])


def _chosen(of: WitType, classes: Mapping[int, type]) -> _Chosen | None:
    try:
        return _Chosen(shape_of(of, _Handles(classes)))
    except Unfit:
        return None


def _fault(result: WitType) -> _Chosen | None:
    """Return what goes wrong in a function with this result: its errors, or extremes where it has none."""
    try:
        if not isinstance(result, Result):
            return _Chosen(shape_of(result))
        if isinstance(result.err, Variant):
            return _Chosen(_Errors(result.err))
        return None if result.err is None else _Chosen(_Always(shape_of(result.err)))
    except Unfit:
        return None


class _Always:
    """The shape of an error: the simplest is one too."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def simplest(self) -> Any:
        return None

    def random(self, rng: Random, size: int) -> Any:
        return self.shape.random(rng, size)


class _Errors:
    """The cases of an error that can be made: those with a handle inside are left out."""

    def __init__(self, of: Variant) -> None:
        self.made: list[tuple[Any, Shape | None]] = []
        for cls, (_, payload) in zip(of.python or (), of.cases, strict=True):
            try:
                self.made.append((cls, None if payload is None else shape_of(payload)))
            except Unfit:
                continue
        if not self.made:
            raise Unfit("no case of it can be made")

    def simplest(self) -> Any:
        return None

    def random(self, rng: Random, size: int) -> Any:
        cls, shape = self.made[int(rng.random() * len(self.made))]
        return cls() if shape is None else cls(shape.random(rng, size))
