"""What a guest's imports answer when nobody else does: values of their types, by a plan that shrinks with the case."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aegis.fuzz.generate import Shape, Unfit, core_shape, shape_of
from aegis.providers import wasi_binding
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Function, Interface, Own, Result, WitType
from aegis.wit.values import Err, Ok

if TYPE_CHECKING:
    from aegis.engine.artifact import Module
    from aegis.engine.component.artifact import Component

__all__ = ["Answers"]

_SIZE = 64


class Plan:
    """The numbers of one case, taken in order; the last serves all that follow."""

    __slots__ = ("numbers", "used")

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self.numbers, self.used = numbers, 0

    def next(self) -> int:
        """Return the number of the next answer."""
        at, self.used = self.used, self.used + 1
        if not self.numbers:
            return 0
        return self.numbers[min(at, len(self.numbers) - 1)]


class Answers:
    """The imports of an artifact that nobody provides, and with ``hostile`` WASI's too."""

    def __init__(self, artifact: Module | Component, *, hostile: bool = False) -> None:
        self._made: dict[str, Callable[[Plan], Any]] = {}
        if artifact.kind == "module":
            self._of_module(artifact)
        else:
            self._of_component(artifact, hostile)

    @property
    def any(self) -> bool:
        """Whether there is something to answer."""
        return bool(self._made)

    def plan(self, numbers: tuple[int, ...]) -> dict[str, Any]:
        """Return the imports of one sandbox, which answer by these numbers."""
        if not self._made:
            return {}
        plan = Plan(numbers)
        return {name: make(plan) for name, make in self._made.items()}

    # -- core modules --------------------------------------------------------------------------

    def _of_module(self, module: Any) -> None:
        from aegis.host import offers

        wanted: dict[str, dict[str, Any]] = {}
        for item in module.imports:
            signature = getattr(item, "type", None)
            if signature is not None and hasattr(signature, "results") and offers(item.module, item.name) is None:
                wanted.setdefault(item.module, {})[item.name] = signature
        for name, functions in wanted.items():
            self._made[name] = _core_functions(functions)

    # -- components ----------------------------------------------------------------------------

    def _of_component(self, component: Any, hostile: bool) -> None:
        for name, item in component.imports.items():
            if isinstance(item, Function):
                if not name.startswith("["):
                    self._made[name] = _answerer(component.imaged(item))
            elif item.functions and (hostile or wasi_binding(name) is None):
                self._made[name] = _implementation(component, item)


def _core_functions(functions: Mapping[str, Any]) -> Callable[[Plan], dict[str, Any]]:
    shapes = {name: tuple(core_shape(kind) for kind in of.results) for name, of in functions.items()}

    def make(plan: Plan) -> dict[str, Any]:
        return {name: _core(plan, kinds) for name, kinds in shapes.items()}

    return make


def _core(plan: Plan, shapes: tuple[Shape, ...]) -> Callable[..., Any]:
    def answer(*_: Any) -> Any:
        number = plan.next()
        rng = random.Random(number)
        values = tuple(0 if number == 0 else shape.random(rng, 1) for shape in shapes)
        return None if not values else values[0] if len(values) == 1 else values

    return answer


def _implementation(component: Any, item: Interface) -> Callable[[Plan], Any]:
    members = {name: _answerer(component.imaged(function)) for name, function in item.functions.items()}

    def make(plan: Plan) -> Any:
        body: dict[str, Any] = {}
        classes: dict[str, dict[str, Any]] = {}
        for name, answerer in members.items():
            kind, mark, rest = name.partition("]")
            if not mark:
                body[snake(name)] = staticmethod(answerer(plan))
                continue
            resource, _, own = rest.partition(".")
            methods = classes.setdefault(pascal(resource), {})
            if kind == "[constructor":
                methods["__init__"] = lambda self, *_: None
            else:
                answer = answerer(plan)
                methods[snake(own)] = staticmethod(answer) if kind == "[static" else _method(answer)
        body.update({name: type(name, (), methods) for name, methods in classes.items()})
        return type("Hostile", (), body)()

    return make


def _method(answer: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *values: answer(*values)


class Thing:
    """Stands for a resource of the host's; whatever is asked of it is answered by nobody."""


def _answerer(function: Function) -> Callable[[Plan], Callable[..., Any]]:
    result = function.result
    simplest, shape = _shape(result)

    def make(plan: Plan) -> Callable[..., Any]:
        def answer(*_: Any) -> Any:
            number = plan.next()
            if shape is None:
                return simplest()
            value = simplest() if number == 0 else shape.random(random.Random(number), _SIZE)
            if isinstance(result, Result):
                if isinstance(value, Err):
                    raise value
                return value.value if isinstance(value, Ok) else value
            return value

        return answer

    return make


def _shape(of: WitType | None) -> tuple[Callable[[], Any], Shape | None]:
    """Return what gives the simplest value of a type, and its shape if it has one."""
    if of is None:
        return lambda: None, None
    if isinstance(of, Own):
        return Thing, None
    try:
        shape = shape_of(of)
    except Unfit:
        return Thing, None
    return lambda: shape.simplest(), shape
