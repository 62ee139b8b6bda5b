"""The events of a run: frozen values that say what happened, after it did.

Each names its ``kind`` and carries ``ts`` (seconds since the Unix epoch), ``run`` (the sandbox's
identifier) and ``seq`` (from 1, without gaps, in the order of delivery); the bus fills in the three.
Strings are cut at 4096 characters when an event is made, so that a guest cannot fill its observer's
memory, and escaped when it is written.

Fields are plain data of the types that they declare: an object of a subclass is replaced by its plain value, and any
other raises ``TypeError`` when the event is made. So no event fails to be written as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from aegis.observe.encode import TEXT_LIMIT, cut, dump, plain

__all__ = [
    "EVENTS",
    "CapabilityChecked",
    "Custom",
    "ErrorRaised",
    "Event",
    "ExecutionCompleted",
    "ExecutionStarted",
    "FuelConsumed",
    "GuestLogged",
    "HostFunctionCalled",
    "MemoryGrew",
    "ModuleLoaded",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event carries."""

    kind: ClassVar[str] = "event"

    ts: float = 0.0
    run: str = ""
    seq: int = 0

    def __post_init__(self) -> None:
        for name, kinds in _kinds_of(type(self)):
            value = getattr(self, name)
            if value.__class__ not in kinds:
                value = _plain_field(type(self), name, kinds, value)
                object.__setattr__(self, name, value)
            if value.__class__ is str and len(value) > TEXT_LIMIT:
                object.__setattr__(self, name, cut(value))

    def to_dict(self) -> dict[str, Any]:
        """Return the event as JSON data: ``ts``, ``run``, ``seq`` and ``kind``, then its own fields."""
        data: dict[str, Any] = {"ts": self.ts, "run": self.run, "seq": self.seq, "kind": self.kind}
        for item in fields(self)[3:]:
            value = getattr(self, item.name)
            data[item.name] = value if value.__class__ is str else plain(value)
        return data

    def to_json(self) -> str:
        """Return one line of ASCII JSON, without its newline."""
        return dump(self.to_dict())


_FIELDS = {
    "str": (str,), "int": (int,), "float": (float,), "bool": (bool,), "str | None": (str, type(None)),
    "int | None": (int, type(None)), "Mapping[str, Any]": (dict,),
}  # fmt: skip
"""The classes of a field's values, by its annotation."""


_kinds: dict[type, tuple[tuple[str, tuple[type, ...]], ...]] = {}


def _kinds_of(event: type[Event]) -> tuple[tuple[str, tuple[type, ...]], ...]:
    """Return the fields of an event class that are checked, with the classes that their values have."""
    found = _kinds.get(event)
    if found is None:
        found = _kinds[event] = tuple(
            (item.name, _FIELDS[str(item.type)]) for item in fields(event) if str(item.type) in _FIELDS
        )
    return found


def _plain_field(event: type[Event], name: str, kinds: tuple[type, ...], value: Any) -> Any:
    """Return a field's value as plain data: of a subclass the value of its base class, an ``int`` as a ``float``."""
    kind = kinds[0]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = " or ".join("None" if k is type(None) else k.__name__ for k in kinds)
        raise TypeError(f"{event.__name__}: {name} must be {expected}, not {type(value).__name__}")
    return kind.__str__(value) if kind is str else kind(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleLoaded(Event):
    """An artifact is ready to run: compiled, or taken from the cache, in ``seconds``."""

    kind: ClassVar[str] = "module_loaded"

    digest: str
    artifact: str = "module"
    size: int
    cached: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionStarted(Event):
    """A call begins. ``function`` is the export (or the start function), ``arguments`` their count.

    ``rows`` are the rows of a call over columns, which has an argument of every row in each column.
    """

    kind: ClassVar[str] = "execution_started"

    function: str
    arguments: int = 0
    rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFunctionCalled(Event):
    """The guest called the host, which answered or failed after ``seconds``.

    ``ok`` says whether the guest got an answer at all, an error code of its interface included;
    ``error`` is the kind of what ended the run instead.
    """

    kind: ClassVar[str] = "host_function_called"

    module: str
    name: str
    seconds: float
    ok: bool = True
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityChecked(Event):
    """The policy answered: what was asked of which target, by which rule, and what would change it.

    ``remedy`` is the option of the command line that would allow it, quoted for a shell; it is empty when the request
    was allowed and when no option would help.
    """

    kind: ClassVar[str] = "capability_checked"

    capability: str
    action: str
    target: str
    allowed: bool
    rule: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryGrew(Event):
    """The linear memories of the sandbox grew, all together, in bytes; the first growth is from 0."""

    kind: ClassVar[str] = "memory_grew"

    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FuelConsumed(Event):
    """One call used ``fuel`` of its ``limit`` (``None``: without one)."""

    kind: ClassVar[str] = "fuel_consumed"

    fuel: int
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionCompleted(Event):
    """A call ended, in whatever way ``status`` says; the numbers are of this call alone.

    ``seconds`` is wall-clock time with its host calls; ``bytes_in`` were copied from the guest to
    the host, ``bytes_out`` from the host to the guest.
    """

    kind: ClassVar[str] = "execution_completed"

    function: str
    status: str
    exit_code: int
    seconds: float
    fuel: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRaised(Event):
    """A call ended in an error: its kind, who can put it right, and the message."""

    kind: ClassVar[str] = "error"

    error_kind: str
    blame: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLogged(Event):
    """The guest wrote a line to its granted log."""

    kind: ClassVar[str] = "guest_logged"

    level: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Custom(Event):
    """An event of the embedder's own. ``data`` is kept as a bounded copy in JSON's terms.

    Whatever it holds becomes plain data (:func:`aegis.observe.encode.plain`): at most eight levels and 1000 items, so
    that a cycle ends; a set becomes a list, bytes become text, an object becomes the name of its type.
    """

    kind: ClassVar[str] = "custom"

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.data, Mapping):
            raise TypeError(f"Custom: data must be a mapping, not {type(self.data).__name__}")
        data = plain(self.data)
        object.__setattr__(self, "data", data if data.__class__ is dict else {"data": data})
        Event.__post_init__(self)


EVENTS: Mapping[str, type[Event]] = {
    event.kind: event
    for event in (
        ModuleLoaded,
        ExecutionStarted,
        HostFunctionCalled,
        CapabilityChecked,
        MemoryGrew,
        FuelConsumed,
        ExecutionCompleted,
        ErrorRaised,
        Custom,
        GuestLogged,
    )
}
"""Every event class by its kind."""
