"""Dataclasses and named tuples whose definition compiles no code, so that importing their modules is fast.

The standard library treats a class made by :func:`dataclass` as a dataclass: ``dataclasses.fields``, ``replace``,
``asdict``, ``copy.replace``, ``inspect.signature`` and ``pickle`` work on it. Its ``__init__`` is compiled after the
first few instances and then equals that of a standard dataclass. All other methods are shared by all classes and read
the fields by name. Only the options and field kinds that Aegis uses are supported, and only base classes made here.

Type checkers see the standard library's classes; :mod:`aegis.support.lean` explains why.
"""

from __future__ import annotations

import sys
from _collections import _tuplegetter  # type: ignore[import-not-found]
from collections.abc import Callable, Iterable
from operator import attrgetter
from types import GenericAlias

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

__all__ = ["Field", "Generic", "NamedTuple", "Protocol", "cast", "dataclass", "field", "fields", "replace", "variable"]

_OWN = "__lean_fields__"
_set = object.__setattr__
_UNCOMPILED_INSTANCES = 3
"""Instances created before the ``__init__`` of a class is compiled."""


class _Missing:
    """Marks a field without a default value; the repr is that of a default factory, for signatures."""

    def __repr__(self) -> str:
        return "<factory>"


MISSING = _Missing()


class Field:
    """One field of a dataclass; the attributes are those of ``dataclasses.Field``."""

    __slots__ = ("compare", "default", "default_factory", "init", "kw_only", "name", "repr", "type")

    def __init__(self, default: object, default_factory: object, *, init: bool, repr: bool, compare: bool) -> None:
        self.default, self.default_factory = default, default_factory
        self.init, self.repr, self.compare = init, repr, compare
        self.name = self.type = ""
        self.kw_only = False


def field(
    *, default: object = MISSING, default_factory: object = MISSING, init: bool = True, repr: bool = True,
    compare: bool = True,
) -> Field:  # fmt: skip
    """Return a field with options; equivalent to ``dataclasses.field``."""
    return Field(default, default_factory, init=init, repr=repr, compare=compare)


def dataclass(*, frozen: bool = False, slots: bool = False, kw_only: bool = False) -> Callable[[type], type]:
    """Return a decorator that turns a class into a dataclass; equivalent to ``dataclasses.dataclass``."""
    return lambda cls: _dataclass(cls, frozen=frozen, slots=slots, kw_only=kw_only)


def fields(value: object) -> tuple[Field, ...]:
    """Return the fields of a dataclass made by :func:`dataclass`, or of its instance."""
    found: dict[str, Field] = getattr(value, _OWN)
    return tuple(found.values())


def replace(value: object, /, **changes: object) -> object:
    """Return a copy of an instance with some fields changed; equivalent to ``dataclasses.replace``."""
    known = getattr(value, _OWN, None)
    if known is None:  # a dataclass made by the standard library
        from dataclasses import replace as standard

        return standard(value, **changes)  # type: ignore[type-var]
    for name, own in known.items():
        if not own.init:
            if name in changes:
                raise TypeError(f"field {name} is declared with init=False, it cannot be specified with replace()")
        elif name not in changes:
            changes[name] = getattr(value, name)
    return value.__class__(**changes)


# -- dataclasses -----------------------------------------------------------------------------------


def _dataclass(cls: type, *, frozen: bool, slots: bool, kw_only: bool) -> type:
    own = _own_fields(cls, kw_only=kw_only)
    known = {**_inherited(cls), **own}
    added: dict[str, object] = {
        _OWN: known, "__dataclass_fields__": _StandardFields(), "__signature__": _LazySignature(),
        "__match_args__": tuple(f.name for f in known.values() if f.init and not f.kw_only),
    }  # fmt: skip
    methods = _methods(known, frozen=frozen)
    if cls.__dict__.get("__hash__") is None:  # Python sets it to None in a class that defines __eq__
        added["__hash__"] = methods.pop("__hash__")
    added |= {name: method for name, method in methods.items() if name not in cls.__dict__}
    made = _slotted(cls, own, added, frozen=frozen) if slots else _filled(cls, own, added)
    if "__init__" not in cls.__dict__:
        made.__init__ = _initialiser(made, known, frozen=frozen)  # type: ignore[misc]
    return made


def _filled(cls: type, own: dict[str, Field], added: dict[str, object]) -> type:
    """Add the methods and the default values of the fields to the class itself; return it."""
    for name, value in added.items():
        setattr(cls, name, value)
    for name, one in own.items():
        if one.default is not MISSING:
            setattr(cls, name, one.default)
        elif name in cls.__dict__:
            delattr(cls, name)
    return cls


def _slotted(cls: type, own: dict[str, Field], added: dict[str, object], *, frozen: bool) -> type:
    """Return a copy of the class with slots for its fields; an existing class cannot get slots."""
    kept = {n: v for n, v in cls.__dict__.items() if n not in own and n not in ("__dict__", "__weakref__")}
    inherited = {name for base in cls.__mro__[1:] for name in base.__dict__.get("__slots__", ())}
    slots = {"__slots__": tuple(name for name in own if name not in inherited)}
    if frozen:
        added |= {"__getstate__": _state_of, "__setstate__": _set_state}
    made = type(cls)(cls.__name__, cls.__bases__, {**kept, **added, **slots})
    made.__qualname__ = cls.__qualname__
    return made


def _own_fields(cls: type, *, kw_only: bool) -> dict[str, Field]:
    found = {}
    for name, kind in cls.__annotations__.items():
        if kind.startswith("ClassVar"):
            continue
        given = cls.__dict__.get(name, MISSING)
        made = given if isinstance(given, Field) else field(default=given)
        if made.default.__class__.__hash__ is None:  # the test of dataclasses for a mutable default
            raise ValueError(f"mutable default {type(made.default)} for field {name} is not allowed")
        made.name, made.type, made.kw_only = name, kind, kw_only
        found[name] = made
    return found


def _inherited(cls: type) -> dict[str, Field]:
    found: dict[str, Field] = {}
    for base in reversed(cls.__mro__[1:]):
        known = base.__dict__.get(_OWN)
        if known is None and "__dataclass_fields__" in base.__dict__:
            raise TypeError(f"{cls.__name__}: the base class {base.__name__} is a dataclass of the standard library")
        found |= known or {}
    return found


def _initialiser(cls: type, known: dict[str, Field], *, frozen: bool) -> Callable[..., None]:
    """Return an ``__init__`` for the first instances, which later replaces itself by a compiled one.

    Many classes have one or two instances in a run; for those, compiling takes longer than a loop over the fields.
    """
    after: Callable[..., None] | None = getattr(cls, "__post_init__", None)
    required = {name for name, one in known.items() if one.default is one.default_factory is MISSING}
    plain = all(one.init for one in known.values())
    left = _UNCOMPILED_INSTANCES if plain else 0

    def __init__(self: object, *values: object, **named: object) -> None:
        nonlocal left
        left -= 1
        if left < 0 or values or not required <= named.keys() <= known.keys():
            _compile_init(cls, known, frozen=frozen)(self, *values, **named)  # raises Python's own TypeError if wrong
            return
        for name, one in known.items():
            factory: Any = one.default_factory
            value = named[name] if name in named else one.default if factory is MISSING else factory()
            _set(self, name, value)
        if after is not None:
            after(self)

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    return __init__


def _compile_init(cls: type, known: dict[str, Field], *, frozen: bool) -> Callable[..., None]:
    """Compile the ``__init__`` of a class from its fields, set it on the class and return it."""
    names: dict[str, object] = {"_set": _set}
    places: list[str] = []
    keywords: list[str] = []
    lines: list[str] = []
    for name, one in known.items():
        value = name
        if one.default_factory is not MISSING:
            names[f"_make_{name}"] = one.default_factory
            names["_none"] = MISSING
            value = f"_make_{name}() if {name} is _none else {name}" if one.init else f"_make_{name}()"
            parameter = f"{name}=_none"
        elif one.default is not MISSING:
            names[f"_default_{name}"] = one.default
            parameter = f"{name}=_default_{name}"
            if not one.init:
                value = f"_default_{name}"
        else:
            parameter = name
        if one.init:
            (keywords if one.kw_only else places).append(parameter)
        elif one.default is MISSING and one.default_factory is MISSING:
            continue  # __post_init__ sets this field
        lines.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    parameters = ", ".join(["self", *places, *(["*", *keywords] if keywords else [])])
    body = "\n    ".join(lines or ["pass"])
    exec(f"def __init__({parameters}):\n    {body}", names)
    made: Callable[..., None] = names["__init__"]  # type: ignore[assignment]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__module__ = cls.__module__
    made.__annotations__ = {n: f.type for n, f in known.items() if f.init} | {"return": None}
    cls.__init__ = made  # type: ignore[misc]
    return made


def _methods(known: dict[str, Field], *, frozen: bool) -> dict[str, object]:
    """Return the shared methods: comparison, hash, repr and, for a frozen class, the rejection of changes."""
    compared = [name for name, one in known.items() if one.compare]
    shown = [name for name, one in known.items() if one.repr]
    key = _nothing if not compared else attrgetter(*compared)

    def __eq__(self: object, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return bool(key(self) == key(other))

    def __hash__(self: object) -> int:
        return hash((key(self),))

    def __repr__(self: object) -> str:
        return f"{self.__class__.__qualname__}({', '.join(f'{n}={getattr(self, n)!r}' for n in shown)})"

    def __setattr__(self: object, name: str, value: object) -> None:
        raise _frozen(f"cannot assign to field {name!r}")

    def __delattr__(self: object, name: str) -> None:
        raise _frozen(f"cannot delete field {name!r}")

    methods: dict[str, object] = {"__eq__": __eq__, "__hash__": None, "__repr__": __repr__, "__replace__": replace}
    if frozen:
        methods |= {"__hash__": __hash__, "__setattr__": __setattr__, "__delattr__": __delattr__}
    return methods


def _nothing(value: object) -> tuple[()]:
    return ()


def _frozen(message: str) -> AttributeError:
    from dataclasses import FrozenInstanceError

    return FrozenInstanceError(message)


def _state_of(self: object) -> list[object]:
    return [getattr(self, name) for name in getattr(self, _OWN)]


def _set_state(self: object, state: list[object]) -> None:
    for name, value in zip(getattr(self, _OWN), state, strict=True):
        _set(self, name, value)


class _StandardFields:
    """A descriptor that creates ``__dataclass_fields__`` for the standard library at its first use."""

    def __get__(self, instance: object, owner: type) -> dict[str, Any]:
        import dataclasses

        standard: Any = dataclasses.Field
        made = {}
        for name, one in getattr(owner, _OWN).items():
            default = dataclasses.MISSING if one.default is MISSING else one.default
            factory = dataclasses.MISSING if one.default_factory is MISSING else one.default_factory
            copy = made[name] = standard(default, factory, one.init, one.repr, None, one.compare, None, one.kw_only)
            copy.name, copy.type = name, one.type
            copy._field_type = dataclasses._FIELD  # type: ignore[attr-defined]
        owner.__dataclass_fields__ = made  # type: ignore[attr-defined]
        return made


class _LazySignature:
    """A descriptor that returns the signature of a class, compiling its ``__init__`` if necessary."""

    def __get__(self, instance: object, owner: type) -> object:
        import inspect

        known, frozen = getattr(owner, _OWN), "__setattr__" in owner.__dict__
        init = owner.__init__  # type: ignore[misc]
        if init.__code__.co_flags & inspect.CO_VARARGS and "values" in init.__code__.co_varnames:
            init = _compile_init(owner, known, frozen=frozen)
        signature = inspect.signature(init)
        return signature.replace(parameters=[*signature.parameters.values()][1:])


# -- named tuples ----------------------------------------------------------------------------------


_UNEXPECTED: type[Exception] = TypeError if sys.version_info >= (3, 13) else ValueError


class _TupleMaker(type):
    """The metaclass that turns a class with annotated fields into a named tuple."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        if not bases:
            return super().__new__(mcs, name, bases, namespace)
        names = tuple(namespace.get("__annotations__", ()))
        defaults = {n: namespace[n] for n in names if n in namespace}
        kept = {key: value for key, value in namespace.items() if key not in names}
        own = {n: _tuplegetter(at, None) for at, n in enumerate(names)}
        own |= {"__slots__": (), "_fields": names, "_field_defaults": defaults, "__match_args__": names}
        return type(name, (_TupleBase,), {**own, "__new__": _constructor(name, names, defaults), **kept})


_make_tuple: Any = tuple.__new__


def _constructor(name: str, names: tuple[str, ...], defaults: dict[str, object]) -> Callable[..., Any]:
    """Return a ``__new__`` for the first instances, which later replaces itself by a compiled one."""
    left = _UNCOMPILED_INSTANCES

    def __new__(cls: type, *values: object, **named: object) -> object:
        nonlocal left
        left -= 1
        rest = names[len(values) :]
        if left >= 0 and len(values) + len(rest) == len(names) and named.keys() <= set(rest) <= {*named, *defaults}:
            return _make_tuple(cls, (*values, *(named[n] if n in named else defaults[n] for n in rest)))
        owner = next(base for base in cls.__mro__ if "_field_defaults" in base.__dict__)
        parameters = ", ".join(f"{n}=_default_{n}" if n in defaults else n for n in names)
        scope: dict[str, Any] = {f"_default_{n}": value for n, value in defaults.items()} | {"_make": _make_tuple}
        items = "".join(f"{n}, " for n in names)
        exec(f"def __new__(_cls, {parameters}):\n    return _make(_cls, ({items}))", scope)
        made = scope["__new__"]
        made.__qualname__, made.__module__ = f"{name}.__new__", owner.__module__
        owner.__new__ = staticmethod(made)  # type: ignore[method-assign]
        return made(cls, *values, **named)

    return __new__


class _TupleBase(tuple[Any, ...] if TYPE_CHECKING else tuple):  # type: ignore[misc]
    """The methods that all named tuples share; equivalent to those of ``collections.namedtuple``."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _field_defaults: dict[str, Any] = {}  # noqa: RUF012 - a class variable of named tuples

    @classmethod
    def _make(cls, values: Iterable[Any]) -> _TupleBase:
        made = tuple.__new__(cls, values)
        if len(made) != len(cls._fields):
            raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
        return made

    def _replace(self, /, **changes: Any) -> _TupleBase:
        made = self._make(map(changes.pop, self._fields, self))
        if changes:
            raise _UNEXPECTED(f"Got unexpected field names: {list(changes)!r}")
        return made

    __replace__ = _replace

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"{self.__class__.__name__}({shown})"

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)


class NamedTuple(metaclass=_TupleMaker):
    """The base class of named tuples; the fields are annotations, as in ``typing.NamedTuple``."""


# -- names that only type checkers use -------------------------------------------------------------


class Protocol:
    """The base class of protocols; empty at run time."""


class Generic:
    """The base class of generic classes; its parameter exists only for type checkers."""

    __class_getitem__: Any = classmethod(GenericAlias)


def variable(name: str, *bounds: object, **options: object) -> object:
    """Return ``object`` in place of a type variable."""
    return object


def cast(kind: object, value: object) -> object:
    """Return ``value`` unchanged; ``kind`` is for type checkers."""
    return value
