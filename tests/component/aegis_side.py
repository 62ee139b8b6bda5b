"""A component in Aegis behind the interface of the oracle: neutral values, outcomes, host functions.

It uses the public interface only: bindings by :meth:`aegis.Sandbox.bind`, imports by :class:`aegis.Bound`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace, TracebackType
from typing import Any, TypeVar

from aegis import Aegis, Bound, Component, GuestTrap, OutOfFuel, Some, StackExhausted
from aegis.wit.naming import snake
from aegis.wit.python_types import function_with_python_types
from aegis.wit.types import Enum, Flags, Function, Interface, List, Option, Record, Result, Tuple, Variant, WitType
from aegis.wit.values import Err, Ok
from tests.component.oracle import ABI, CODES, Outcome, Returned, Trapped

__all__ = ["RUNTIME", "Guest", "from_image", "to_image", "trapped"]

RUNTIME = Aegis(cache=False, pooled=False, timeout="60s")

T = TypeVar("T")
_CORE_ENDS = {OutOfFuel: "out-of-fuel", StackExhausted: "stack-overflow"}


def trapped(error: GuestTrap | OutOfFuel | StackExhausted) -> Trapped:
    """Return the outcome of a trap. Codes that core WebAssembly does not define are canonical ABI violations."""
    code = error.code if isinstance(error, GuestTrap) else _CORE_ENDS[type(error)]
    return Trapped(code if code in CODES else ABI, str(error))


class Guest:
    """A sandbox of a component whose exports and imports have the given types.

    A name is that of a function, or ``instance#function``. ``source`` may be a loaded component.
    """

    def __init__(
        self,
        source: str | Component,
        exports: Mapping[str, Function],
        imports: Mapping[str, tuple[Function, Callable[..., Any]]] | None = None,
        runtime: Aegis = RUNTIME,
    ) -> None:
        component = runtime.load_wat(source) if isinstance(source, str) else source
        self._types = {name: function_with_python_types(of, {}) for name, of in exports.items()}
        self.sandbox = runtime.sandbox(component, imports=_providers(imports or {}))
        self._bound = {
            instance: self.sandbox.bind(Interface(instance, functions))
            for instance, functions in _by_instance(self._types).items()
        }

    def call(self, name: str, *arguments: Any) -> Outcome:
        """Call an export with neutral values."""
        of = self._types[name]
        given = [to_image(t, value) for (_, t), value in zip(of.params, arguments, strict=True)]
        try:
            instance, function = _split(name)
            returned = getattr(self._bound[instance], snake(function))(*given)
        except (GuestTrap, OutOfFuel, StackExhausted) as error:
            return trapped(error)
        except Err as declared:
            returned = declared
        else:
            returned = Ok(returned) if isinstance(of.result, Result) else returned
        return Returned(None if of.result is None else from_image(of.result, returned))

    def reset(self) -> None:
        """Restart with a fresh instance."""
        self.sandbox.reset()

    def close(self) -> None:
        """Close the sandbox."""
        self.sandbox.close()

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _split(name: str) -> tuple[str, str]:
    instance, _, function = name.rpartition("#")
    return instance, function


def _by_instance(items: Mapping[str, T]) -> dict[str, dict[str, T]]:
    found: dict[str, dict[str, T]] = {}
    for name, item in items.items():
        instance, function = _split(name)
        found.setdefault(instance, {})[function] = item
    return found


def _providers(imports: Mapping[str, tuple[Function, Callable[..., Any]]]) -> dict[str, Bound]:
    made = {}
    for instance, items in _by_instance(imports).items():
        types = {name: function_with_python_types(of, {}) for name, (of, _) in items.items()}
        called = {name: _over_images(types[name], function) for name, (_, function) in items.items()}
        if instance:
            implementation = SimpleNamespace(**{snake(name): function for name, function in called.items()})
            made[instance] = Bound(Interface(instance, types), implementation)
        else:
            made.update({name: Bound(Interface("", {name: types[name]}), called[name]) for name in items})
    return made


def _over_images(of: Function, function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any) -> Any:
        given = (from_image(t, value) for (_, t), value in zip(of.params, arguments, strict=True))
        returned = function(*given)
        return None if of.result is None else to_image(of.result, returned)

    return called


def to_image(of: WitType, value: Any) -> Any:
    """Convert a neutral value to the Python value that Aegis takes for ``of``, whose named types have their classes."""
    match of:
        case List(element):
            return value if element == "u8" else [to_image(element, item) for item in value]
        case Tuple(elements):
            return tuple(to_image(t, item) for t, item in zip(elements, value, strict=True))
        case Option(element):
            if value is None:
                return None
            inner = to_image(element, value.value)
            return Some(inner) if isinstance(element, Option) else inner
        case Result(ok, err):
            payload = ok if isinstance(value, Ok) else err
            return type(value)(None if payload is None else to_image(payload, value.value))
        case Record(fields=fields, python=python):
            assert python is not None
            return python(*(to_image(t, value[name]) for name, t in fields))
        case Variant(cases=cases, python=classes):
            assert classes is not None
            name, inner = value
            number = [case for case, _ in cases].index(name)
            payload = cases[number][1]
            return classes[number](*([] if payload is None else [to_image(payload, inner)]))
        case Enum(python=python):
            assert python is not None
            return python(value)
        case Flags(names=names, python=python):
            assert python is not None
            return python(sum(1 << n for n, name in enumerate(names) if name in value))
    return value


def from_image(of: WitType, value: Any) -> Any:
    """Convert a Python value of Aegis to a neutral value."""
    match of:
        case List(element):
            return value if element == "u8" else [from_image(element, item) for item in value]
        case Tuple(elements):
            return tuple(from_image(t, item) for t, item in zip(elements, value, strict=True))
        case Option(element):
            if value is None:
                return None
            return Some(from_image(element, value.value if isinstance(element, Option) else value))
        case Result(ok, err):
            payload = ok if isinstance(value, Ok) else err
            return type(value)(None if payload is None else from_image(payload, value.value))
        case Record(fields=fields):
            return {name: from_image(t, getattr(value, snake(name))) for name, t in fields}
        case Variant(cases=cases, python=classes):
            assert classes is not None
            name, payload = cases[classes.index(type(value))]
            return name, None if payload is None else from_image(payload, value.value)
        case Enum():
            return value.value
        case Flags(names=names):
            return frozenset(name for n, name in enumerate(names) if value.value >> n & 1)
    return value
