"""The values and seams that floors share: types of functions, and what a host module may ask of a run.

The records here are named tuples: they are made and hashed on hot paths, and defining one costs start-up
less than a dataclass does.

``host`` and ``engine`` do not import each other. A host module is written against the two protocols
here, :class:`GuestMemory` and :class:`CallScope`; the engine implements them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aegis.support.lean import Any, NamedTuple, Protocol

__all__ = ["CallScope", "Decision", "FuncType", "GuestMemory", "HostFunction", "ImportName", "MemoryFault", "Rows"]


class FuncType(NamedTuple):
    """A core function type; value types are spelt as in the text format (``i32`` … ``externref``)."""

    params: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


class Rows:
    """Stands for an exported function, by its name, where its calls over columns are meant. It equals no other name."""

    __slots__ = ("function",)

    def __init__(self, function: Any) -> None:
        self.function = function

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and bool(self.function == other.function)

    def __hash__(self) -> int:
        return hash((Rows, self.function))

    def __str__(self) -> str:
        return str(self.function)


class ImportName(NamedTuple):
    """The module and the name of an import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class HostFunction(NamedTuple):
    """A function that the host offers to one sandbox under ``module`` and ``name``.

    ``call`` takes the parameters as plain ``int`` and ``float`` (integers signed, as in the text
    format) and returns the result, a tuple of several, or ``None`` of none. What it raises that is
    an :class:`~aegis.errors.AegisError` ends the run as that error; anything else as
    :class:`~aegis.errors.HostError`.
    """

    module: str
    name: str
    type: FuncType
    call: Callable[..., Any]


class MemoryFault(Exception):
    """An address and length that do not lie within the guest's memory."""


class GuestMemory(Protocol):
    """Bounded, copying access to the guest's memory during a host call. Offsets and lengths in bytes.

    Every method raises :class:`MemoryFault` for a range that is not wholly inside, and charges the
    bytes it copies to the limit ``host_bytes``. One read is one value: it may not be larger than ``value_bytes``.
    """

    def size(self) -> int: ...
    def read(self, offset: int, length: int) -> bytes: ...
    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None: ...


class Decision(NamedTuple):
    """One answer of the policy: the action and target that a run asked for, the answer, and the rule behind it.

    ``remedy`` is the option that would change the answer, quoted for a shell; it is empty when the request was allowed
    and when no option would help. Where a host function makes a decision, ``target`` is the guest's text as it is and
    ``remedy`` what would have to be granted; :func:`aegis.policy.remedies.explained` makes the decision that is shown.
    """

    capability: str
    action: str
    target: str
    allowed: bool
    rule: str
    remedy: str = ""


class CallScope(Protocol):
    """What a host function may know and ask of the call that it serves.

    ``listens`` tells that somebody hears of decisions that allow; those that deny always count.
    """

    listens: bool

    def remaining(self) -> float | None:
        """Seconds to the deadline, ``None`` without one; raise if it passed or the run was cancelled."""
        ...

    def wait(
        self, seconds: float | None = None, *, read: Sequence[int] = (), write: Sequence[int] = ()
    ) -> tuple[list[int], list[int]]:
        """Wait for descriptors or for ``seconds``; return the ready ones, two empty lists for time.

        It raises :class:`~aegis.errors.DeadlineExceeded` or :class:`~aegis.errors.Cancelled` when
        one of those comes first, so a host function never waits longer than it may.
        """
        ...

    def decided(self, decision: Decision) -> None:
        """Record a decision of the policy, as an event and in the metrics."""
        ...

    def logged(self, level: str, message: str) -> None:
        """Tell observers of a line that the guest logged; ``message`` is escaped and cut already."""
        ...
