"""The events of a run: immutable records that are delivered after the fact.

Each event class has a ``kind``. Each event has ``ts`` (seconds since the Unix epoch), ``run`` (the identifier of the
sandbox) and ``seq`` (from 1, without gaps, in the order of delivery), which the bus sets. Strings are truncated to 4096
characters when an event is created, so that a guest cannot fill the memory of a subscriber, and escaped when it is
written.

Fields have exactly their declared types: a value of a subclass is converted, any other value raises ``TypeError`` when
the event is created. So every event can be written as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from aegis.observe.encode import MAX_TEXT_CHARACTERS, cut, dump, plain

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
    "RunEnded",
    "RunStarted",
]


def __dir__() -> list[str]:
    return sorted(__all__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base class of events."""

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
            if value.__class__ is str and len(value) > MAX_TEXT_CHARACTERS:
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
"""The classes that the values of a field may have, by annotation."""


_kinds: dict[type, tuple[tuple[str, tuple[type, ...]], ...]] = {}


def _kinds_of(event: type[Event]) -> tuple[tuple[str, tuple[type, ...]], ...]:
    """Return the checked fields of an event class, with the classes that their values may have."""
    found = _kinds.get(event)
    if found is None:
        found = _kinds[event] = tuple(
            (item.name, _FIELDS[str(item.type)]) for item in fields(event) if str(item.type) in _FIELDS
        )
    return found


def _plain_field(event: type[Event], name: str, kinds: tuple[type, ...], value: Any) -> Any:
    """Return a field's value converted to the declared class; raise ``TypeError`` if that is impossible."""
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
class RunStarted(Event):
    """A command began to run the artifact ``path``; ``function`` is the export that its options name, if any."""

    kind: ClassVar[str] = "run_started"

    path: str
    function: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """A command ended the run of ``path``, also one that was refused before the guest started.

    ``status`` and ``exit_code`` are those of the command's report; ``message`` is that of its error.
    """

    kind: ClassVar[str] = "run_ended"

    path: str
    status: str
    exit_code: int
    function: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleLoaded(Event):
    """An artifact was loaded in ``seconds``, by compiling it or (``cached``) from the cache.

    ``proposals`` names the WebAssembly proposals that were enabled beyond the default, separated by spaces.
    """

    kind: ClassVar[str] = "module_loaded"

    digest: str
    artifact: str = "module"
    size: int
    cached: bool
    seconds: float
    proposals: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionStarted(Event):
    """A call started. ``function`` is the export or the start function, ``arguments`` the number of arguments.

    ``rows`` is the number of rows of a call over columns, ``None`` for other calls.
    """

    kind: ClassVar[str] = "execution_started"

    function: str
    arguments: int = 0
    rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFunctionCalled(Event):
    """The guest called a host function, which ended after ``seconds``.

    ``ok`` is true if the guest received a result, which may be an error code of the interface, or cancelled the call.
    Otherwise ``error`` is the kind of the error that ended the run. Asynchronous calls overlap: their ``seconds``
    include the time in which they waited.
    """

    kind: ClassVar[str] = "host_function_called"

    module: str
    name: str
    seconds: float
    ok: bool = True
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityChecked(Event):
    """The policy decided on a request of the guest: ``rule`` is the rule that allowed or denied it.

    ``remedy`` is the command-line option that would allow the request, quoted for a shell; it is empty if the request
    was allowed or if no option would allow it. The option for a look-up has the word ``PORT``, because a look-up has no
    port.
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
    """The linear memories of the sandbox grew; ``before`` (0 at first) and ``after`` are bytes of all together."""

    kind: ClassVar[str] = "memory_grew"

    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FuelConsumed(Event):
    """A call consumed ``fuel`` of its ``limit``; ``None`` is no limit."""

    kind: ClassVar[str] = "fuel_consumed"

    fuel: int
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionCompleted(Event):
    """A call ended with ``status``; the numbers are those of this call.

    ``seconds`` is wall-clock time including host calls. ``bytes_in`` were copied from the guest to the host,
    ``bytes_out`` from the host to the guest.
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
    """A call ended with an error; ``error_kind`` and ``blame`` are those of :class:`aegis.AegisError`."""

    kind: ClassVar[str] = "error"

    error_kind: str
    blame: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLogged(Event):
    """The guest logged a line through ``wasi:logging``."""

    kind: ClassVar[str] = "guest_logged"

    level: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Custom(Event):
    """An event of the embedder. ``data`` is stored as a bounded copy that consists of JSON types.

    The copy has at most eight levels and 1000 items, so cycles are cut. A set becomes a list, bytes become text, and
    any other object becomes the name of its type; see :func:`aegis.observe.encode.plain`.
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
        RunStarted,
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
        RunEnded,
    )
}
"""The event classes by kind."""
