"""Values and protocols that ``host``, ``engine`` and the packages above them share.

``host`` and ``engine`` do not import each other. Host functions use the two protocols defined here,
:class:`GuestMemory` and :class:`CallScope`; ``engine`` implements them.

The records are named tuples because they are created and hashed on hot paths, and because defining a named tuple
costs less start-up time than defining a dataclass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aegis.support.lean import Any, NamedTuple, Protocol

__all__ = [
    "AnswerStep", "CallScope", "Decision", "Ended", "FuncType", "GuestMemory", "HostCall", "HostFunction", "ImportName",
    "Interest", "MemoryFault", "Promise", "Rows",
]  # fmt: skip


class FuncType(NamedTuple):
    """A core function type; value types are written as in the text format (``i32`` … ``externref``)."""

    params: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


class Interest(NamedTuple):
    """The events that an operation of the host waits for: descriptors, and instants."""

    read: tuple[int, ...] = ()
    write: tuple[int, ...] = ()
    instant: int | None = None
    """Nanoseconds on the sandbox's monotonic clock."""
    host_time: float | None = None
    """The ``time.monotonic()`` at which to check again: for timeouts in real time, whichever clock the guest has."""


class Ended(Exception):
    """The end of a stream: a source has no more elements, or a sink accepts no more."""


class Promise:
    """A future that a host function gives to the guest, and whose value it provides by :meth:`set`."""

    __slots__ = ("_expect", "_take", "_values")

    def __init__(self) -> None:
        self._values: tuple[Any, ...] = ()
        self._take: Callable[[Any], None] | None = None
        self._expect: Callable[[Any], None] | None = None

    def set(self, value: Any) -> None:
        """Provide the value; later values are ignored."""
        if not self._values:
            self._values = (value,)
            if self._take is not None:
                self._take(value)

    def attach(self, take: Callable[[Any], None], expect: Callable[[Any], None] | None = None) -> None:
        """Pass the value to ``take``, now or when it is provided. ``expect`` starts an operation of the host."""
        self._take, self._expect = take, expect
        if self._values:
            take(self._values[0])

    def pursue(self, operation: Any) -> None:
        """Have the scheduler complete an operation that leads to the value, whether the guest waits for it or not.

        The operation is one of :mod:`aegis.component.tasks.operations`. The guest must have the future already.
        """
        if self._expect is not None:
            self._expect(operation)


class Rows:
    """The key for calls over columns of the export ``function``; unequal to the key for its single calls."""

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
    """A function that the host provides to one sandbox as the import ``module``.``name``.

    ``call`` takes the parameters as ``int`` (signed) and ``float``. It returns the result, a tuple of several results,
    or ``None``. An :class:`~aegis.errors.AegisError` that it raises ends the run with that error; any other exception
    ends the run with :class:`~aegis.errors.HostError`.
    """

    module: str
    name: str
    type: FuncType
    call: Callable[..., Any]


class HostCall(NamedTuple):
    """One call of a host function, with its arguments as Python values; an :class:`AnswerStep` answers it.

    ``interface``
        The module of a core function, or the interface of a component's, ``""`` for a function of the world itself.
    ``function``
        Its name there, such as ``fd_write`` or ``[method]input-stream.read``; a method's first argument is its object.
    ``type``
        A :class:`FuncType`, or an :class:`aegis.wit.types.Function` with the Python classes of its values.
    ``answer``
        Calls the host function itself with these arguments, and awaits its result; returns the result or raises the
        function's error. For a WIT ``result``, it returns the payload of ``ok`` and raises :class:`aegis.Err`.
        It raises :class:`aegis.SandboxStateError` after the step has returned, and on other threads.
    """

    interface: str
    function: str
    type: Any
    arguments: tuple[Any, ...]
    answer: Callable[[], Any]


class AnswerStep(Protocol):
    """Answers the host calls of one sandbox in place of its host functions, which it may call or not.

    It returns a value of the function's result type, or raises, as a host function does; the value is validated like
    that of a host function. It is called for every import, those that Aegis serves and those that the embedder serves,
    on the thread that runs the guest or waits for its worker. If the guest is isolated, a resource of a host function
    in the worker is an object without methods that stands for it.
    """

    def __call__(self, call: HostCall, /) -> Any: ...


class MemoryFault(Exception):
    """The guest gave a host function bad data: a range outside its memory, or bytes that are not UTF-8 text.

    A host function may answer the guest with an error instead. If it does not, the call ends with
    :class:`~aegis.errors.GuestTrap`, which has the ``code``: ``memory-out-of-bounds`` or ``invalid-utf-8``.
    """

    def __init__(self, message: str, *, code: str = "memory-out-of-bounds") -> None:
        super().__init__(message)
        self.code = code


class GuestMemory(Protocol):
    """Bounds-checked access by copy to the guest's memory during a host call. Offsets and lengths are in bytes.

    ``read`` and ``write`` raise :class:`MemoryFault` for a range that is not entirely inside the memory, and count the
    copied bytes towards the limit ``host_bytes``. One read is one value for the limit ``value_bytes``.
    """

    def size(self) -> int: ...
    def read(self, offset: int, length: int) -> bytes: ...
    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None: ...


class Decision(NamedTuple):
    """The policy's decision on one request: the requested action and target, the verdict, and the rule for it.

    ``remedy`` is the command-line option that would allow the request, quoted for a shell; it is empty if the request
    was allowed or if no option would allow it. It grants no more than the request: one host at one port, by one method.
    A look-up of a name has no port, so its option has the word ``PORT`` in that place.

    A host function creates a raw decision without a remedy: ``target`` is the guest's unescaped text, and ``wanted`` is
    the missing grant in the guest's terms. :func:`aegis.policy.remedies.explained` turns a raw decision into one that
    is safe to show: it makes the remedy from ``wanted``, which is empty then.
    """

    capability: str
    action: str
    target: str
    allowed: bool
    rule: str
    remedy: str = ""
    wanted: str = ""


class CallScope(Protocol):
    """The running call, as a host function sees it.

    ``listens`` is true if a subscriber is attached. Without one, a host function may skip :meth:`decided` for allowed
    requests; it must report every denial. ``clocks`` are the sandbox's, for waits until an :attr:`Interest.instant`;
    the host function that starts the first such wait sets them.
    """

    listens: bool
    clocks: Any

    def remaining(self) -> float | None:
        """Return the seconds until the deadline, or ``None`` without one.

        Raise :class:`~aegis.errors.DeadlineExceeded` or :class:`~aegis.errors.Cancelled` if the call must stop.
        """
        ...

    def wait(
        self, seconds: float | None = None, *, read: Sequence[int] = (), write: Sequence[int] = ()
    ) -> tuple[list[int], list[int]]:
        """Wait until a descriptor is ready or ``seconds`` have passed; return the ready ones for reading and writing.

        Raise :class:`~aegis.errors.DeadlineExceeded` or :class:`~aegis.errors.Cancelled` if the call must stop first,
        so a host function never outlasts its call.
        """
        ...

    def decided(self, decision: Decision) -> None:
        """Record a policy decision as an event and in the metrics."""
        ...

    def logged(self, level: str, message: str) -> None:
        """Send a log line of the guest to the subscribers; ``message`` must be escaped and truncated already."""
        ...
