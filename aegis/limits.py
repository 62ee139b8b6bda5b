"""The limits of one sandbox, their units, and how they are parsed and reported.

Every limit except ``fuel`` is on by default. ``None`` lifts a limit; it must be given explicitly, and the report
lists it. ``fuel`` is off by default because counting it costs compute time, and the deadline bounds compute time
already. This module enforces nothing: the docstring of each field names the package or module that enforces the limit,
and :func:`exceeded` builds the message of its error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aegis.errors import PolicyError
from aegis.support.keywords import DEFAULT, given
from aegis.support.lean import TYPE_CHECKING, Any, NamedTuple, TypeAlias, dataclass, fields, replace
from aegis.text import printable, similar_names

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Never

    Amount: TypeAlias = int | str | None
    Duration: TypeAlias = float | str | timedelta | None

__all__ = [
    "LIMIT_ALIASES",
    "LIMIT_NAMES",
    "LIMIT_ROWS",
    "TRUSTED",
    "LimitRow",
    "Limits",
    "default_of",
    "exceeded",
    "flag_of",
    "format_bytes",
    "format_count",
    "format_limit",
    "format_seconds",
    "parse_bytes",
    "parse_count",
    "parse_limit",
    "parse_nanoseconds",
    "parse_seconds",
]


def __dir__() -> list[str]:
    return sorted(__all__)


KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MAX_STACK_BYTES = 2 * MIB  # above it the engine aborts the process (F29)
MIN_STACK_BYTES = 16 * KIB
MAX_MEMORY_BYTES = 4 * GIB  # the address space of a 32-bit memory
MAX_TABLE_ELEMENTS = 10_000_000
MAX_MODULE_BYTES = GIB
MAX_TIMEOUT_SECONDS = 366 * 86400.0
SIGNED_64 = 2**63 - 1  # the largest signed number of 64 bits

_BYTE_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": KIB, "m": MIB, "g": GIB, "kib": KIB, "mib": MIB, "gib": GIB, "tib": 1 << 40,
}  # fmt: skip
_TIME_UNITS = {
    "": 10**9, "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
"""Nanoseconds in each unit: whole numbers, so that decimal text is converted exactly."""
_COUNT_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
_QUANTITY = r"(?a:\s*([0-9]+(?:_[0-9]+)*)(?:\.([0-9]+))?(?:[eE][+]?([0-9]{1,2}))?\s*([A-Za-z]*)\s*)"
_MAX_QUANTITY_CHARACTERS = 40
_MAX_QUANTITY_UNITS = 1 << 256


def _read(text: str, what: str, units: Mapping[str, int], example: str) -> float | int:
    """Parse a quantity without rounding; return an ``int`` if it is a whole number of the smallest unit."""
    import re  # only text needs it: a number is not parsed

    match = re.fullmatch(_QUANTITY, text.replace("µ", "u").replace("\u03bc", "u"))
    if match is None or len(text) > _MAX_QUANTITY_CHARACTERS:
        raise PolicyError(f"{what}: '{printable(text, 60)}' is not a quantity: write it like {example}")
    whole, decimals, power, unit = match.group(1).replace("_", ""), match.group(2) or "", match.group(3), match.group(4)
    if unit.lower() not in units:
        raise PolicyError(f"{what}: {unit!r} is not a unit: use one of {', '.join(u for u in units if u)}")
    value = int(whole + decimals) * units[unit.lower()] * int("1" + "0" * int(power or 0))
    divisor = int("1" + "0" * len(decimals))
    return value / divisor if value % divisor else value // divisor


def _quantity(value: object, what: str, units: Mapping[str, int], example: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise PolicyError(f"{what}: expected a quantity like {example}, not {type(value).__name__}")
    if isinstance(value, str):
        value = _read(value, what, units, example)
    if not -_MAX_QUANTITY_UNITS < value < _MAX_QUANTITY_UNITS:  # also false for a NaN
        raise PolicyError(f"{what}: the number is not finite or too large: write it like {example}")
    if value <= 0:
        lifted = ", or none for no limit" if what in _ROWS and what != "stack" else ""
        raise PolicyError(f"{what}: {value:g} is not a limit: give a positive value{lifted}")
    return value


def parse_bytes(value: object, what: str = "size") -> int:
    """Parse a size: an ``int`` of bytes, or text such as ``64MiB``, ``64MB`` (decimal) or ``1.5GiB``."""
    size = _quantity(value, what, _BYTE_UNITS, "64MiB")
    if size != int(size):
        raise PolicyError(f"{what}: {value!r} is not a whole number of bytes")
    return int(size)


def parse_seconds(value: object, what: str = "timeout") -> float:
    """Parse a duration: seconds as a number, a ``datetime.timedelta``, or text such as ``30s``, ``250ms`` or ``1h``."""
    if not isinstance(value, (int, float, str)):
        from datetime import timedelta  # a caller that passes a timedelta has imported this module already

        value = value.total_seconds() if isinstance(value, timedelta) else value
    quantity = _quantity(value, what, _TIME_UNITS, "30s")
    return quantity / 1e9 if isinstance(value, str) else float(quantity)


def parse_nanoseconds(value: object, what: str) -> int:
    """Parse a duration as :func:`parse_seconds` does, and return whole nanoseconds, which text gives exactly."""
    quantity = _quantity(value, what, _TIME_UNITS, "30s")
    return round(quantity if isinstance(value, str) else quantity * 1e9)


def parse_count(value: object, what: str = "count") -> int:
    """Parse a whole count: an ``int``, or text such as ``1000``, ``1_000_000``, ``1e9`` or ``10k``."""
    number = _quantity(value, what, _COUNT_UNITS, "1e9")
    if number != int(number):
        raise PolicyError(f"{what}: {value!r} is not a whole number")
    return int(number)


def format_bytes(size: float) -> str:
    """Return ``size`` bytes as text in the largest binary unit that it fills, such as ``64 MiB``."""
    for unit, scale in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size >= scale:
            return f"{size / scale:.4g} {unit}"
    return "1 byte" if size == 1 else f"{size:,.0f} bytes"


def format_seconds(seconds: float) -> str:
    """Return a duration as text in a suitable unit, such as ``30 s`` or ``1.5 ms``."""
    if seconds >= 10_000:
        return f"{seconds:,.0f} s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.4g} {unit}"
    return f"{seconds * 1e9:.4g} ns"


def format_count(number: float) -> str:
    """Return a count as text with thousands separators."""
    return f"{number:,}" if isinstance(number, int) else f"{number:,.0f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The resource limits of one sandbox.

    Every field accepts ``None``, which lifts the limit, except ``stack``. Sizes are bytes or text such as ``"64MiB"``,
    durations are seconds, a ``datetime.timedelta`` or text such as ``"30s"``, counts are integers or text such as
    ``"1e9"``. Raise :class:`~aegis.errors.PolicyError` for a value that is no quantity or out of range.

    ``fuel``, ``timeout`` and ``host_bytes`` apply to one call by the embedder, including nested calls; each call and
    each instantiation starts again from zero. ``value_bytes`` applies to one value. All other limits apply to the
    lifetime of the sandbox, which ``reset()`` restarts.

    >>> Limits(memory="128MiB", timeout="5s").memory
    134217728
    """

    memory: int | None = 64 * MIB
    """Bytes of all linear memories together, counted exactly (engine)."""
    fuel: int | None = None
    """Units of guest work in one call, about one per instruction; ``None`` disables counting (engine).

    The same call consumes the same fuel on every machine, so a fuel limit stops a run reproducibly, unlike
    ``timeout``. Counting costs 10 to 40 % of a guest's compute time.
    """
    timeout: float | None = 30.0
    """Wall-clock seconds of one call, including host calls; also bounds its CPU time (engine, and every wait in
    host)."""
    stack: int = 512 * KIB
    """Bytes of guest stack, from 16 KiB to 2 MiB; cannot be lifted (engine)."""
    table_elements: int | None = 10_000
    """Elements of all tables together (engine).

    Exact when at most one table can grow. When several can, each is limited to an equal share.
    """
    memories: int | None = 10
    """Number of linear memories (wasm/caps for a component, engine)."""
    tables: int | None = 16
    """Number of tables (wasm/caps for a component, engine)."""
    instances: int | None = 64
    """Number of core instances (component/planning/artifact, engine)."""
    module_size: int | None = 32 * MIB
    """Bytes of the artifact, checked before compilation (engine)."""
    functions: int | None = 100_000
    """Functions of all modules of an artifact, checked before compilation (wasm/admission)."""
    function_size: int | None = MIB
    """Code bytes of one function, checked before compilation (wasm/admission)."""
    locals: int | None = 20_000
    """Locals and parameters of one function, checked before compilation (wasm/admission)."""
    nesting: int | None = 10_000
    """Depth of nested blocks, loops and ifs in one function, checked before compilation (wasm/admission)."""
    complexity: int | None = 100_000_000
    """Estimated time to compile the artifact, in microseconds on one core, rounded up; one function may take a
    twentieth of it. Checked before compilation (wasm/admission)."""
    stdout: int | None = MIB
    """Bytes written to stdout (host)."""
    stderr: int | None = 256 * KIB
    """Bytes written to stderr (host)."""
    handles: int | None = 4096
    """Resource handles in the tables of a component's instances, and handles of its resources in the host
    (component/handles)."""
    tasks: int | None = 10_000
    """Tasks of an asynchronous component at the same time: calls of its functions that have not ended
    (component/tasks)."""
    open_files: int | None = 64
    """Files and directories open at the same time, not counting preopens (host)."""
    sockets: int | None = 16
    """Sockets open at the same time, including accepted connections and running name lookups (host)."""
    connections: int | None = 1_000
    """Connections opened or accepted in total (host)."""
    network_bytes: int | None = 256 * MIB
    """Bytes sent and received, added together (host)."""
    resolver_answers: int | None = 64
    """Addresses returned for one name (host)."""
    http_requests: int | None = 16
    """HTTP exchanges in progress at the same time (host)."""
    http_fields: int | None = 256
    """Header or trailer fields of one HTTP message (host)."""
    http_field_bytes: int | None = 64 * KIB
    """Bytes of all field names and values of one HTTP message (host)."""
    disk_written: int | None = 64 * MIB
    """Bytes written to granted files or allocated in them (host)."""
    host_calls: int | None = 1_000_000
    """Calls from the guest into the host (engine)."""
    host_bytes: int | None = GIB
    """Bytes copied between guest memory and the host in one call, both directions together (engine)."""
    value_bytes: int | None = 64 * MIB
    """Bytes of host memory for one value, at the size of its Python objects (engine).

    A value is a result, the arguments of one host call, or one read of guest memory; for an isolated sandbox also the
    arguments of a call. The same bound applies to data that the host stores for the guest between calls, such as
    directory listings (host).
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            parsed = parse_limit(field.name, value)
            if parsed != value or type(parsed) is not type(value):
                object.__setattr__(self, field.name, parsed)

    def with_(
        self, *,
        memory: Amount = DEFAULT, fuel: Amount = DEFAULT, timeout: Duration = DEFAULT, stack: int | str = DEFAULT,
        table_elements: Amount = DEFAULT, memories: Amount = DEFAULT, tables: Amount = DEFAULT,
        instances: Amount = DEFAULT, module_size: Amount = DEFAULT, functions: Amount = DEFAULT,
        function_size: Amount = DEFAULT, locals: Amount = DEFAULT, nesting: Amount = DEFAULT,
        complexity: Amount = DEFAULT, stdout: Amount = DEFAULT, stderr: Amount = DEFAULT, handles: Amount = DEFAULT,
        tasks: Amount = DEFAULT, open_files: Amount = DEFAULT, sockets: Amount = DEFAULT, connections: Amount = DEFAULT,
        network_bytes: Amount = DEFAULT, resolver_answers: Amount = DEFAULT, http_requests: Amount = DEFAULT,
        http_fields: Amount = DEFAULT, http_field_bytes: Amount = DEFAULT, disk_written: Amount = DEFAULT,
        host_calls: Amount = DEFAULT, host_bytes: Amount = DEFAULT, value_bytes: Amount = DEFAULT,
        memory_limit: Amount = DEFAULT, fuel_limit: Amount = DEFAULT, stack_limit: int | str = DEFAULT,
        stdout_limit: Amount = DEFAULT, stderr_limit: Amount = DEFAULT,
        **unknown: Never,
    ) -> Limits:  # fmt: skip
        """Return a copy with some limits changed; values as for the class.

        Raise :class:`~aegis.errors.PolicyError` for an unknown name or an invalid value.
        """
        changes = without_aliases(given(vars(), (*LIMIT_NAMES, *LIMIT_ALIASES)))
        for name in changes:
            if name not in LIMIT_NAMES:
                hint = "".join(f": did you mean {n}?" for n in similar_names(name, LIMIT_NAMES, 1))
                raise PolicyError(f"{name!r} is not a limit{hint}")
        return replace(self, **changes)

    def lifted(self) -> tuple[str, ...]:
        """Return the names of the limits that are on by default and ``None`` here."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is None and f.default is not None)


class LimitRow(NamedTuple):
    """A limit: its name, parser and range, the words of its error message, and its option on the command line."""

    name: str
    parse: Callable[[object, str], float | int]
    low: float
    high: float
    label: str
    """The limit in error messages; empty if it raises no error, because the guest gets an error code or a shorter
    result."""
    unit: str
    flag: str
    help: str


# The options of the command line and the reference of the documentation derive from this table. Rows are tuples at
# first, because a constructor would be compiled at start.
LIMIT_ROWS: tuple[LimitRow, ...] = tuple(map(LimitRow._make, (
    ("memory", parse_bytes, 1, MAX_MEMORY_BYTES, "memory limit", "bytes",
     "--memory-limit", "Bytes of all linear memories together."),
    ("fuel", parse_count, 1, SIGNED_64, "fuel limit", "units in one call",
     "--fuel-limit", "Fuel of the call, such as 1e9; about one unit per instruction."),
    ("timeout", parse_seconds, 0.001, MAX_TIMEOUT_SECONDS, "deadline", "in one call",
     "--timeout", "Wall-clock time of the run, including loading."),
    ("stack", parse_bytes, MIN_STACK_BYTES, MAX_STACK_BYTES, "stack limit", "bytes",
     "--stack-limit", "Bytes of guest stack."),
    ("table_elements", parse_count, 1, MAX_TABLE_ELEMENTS, "table-element limit", "elements",
     "--table-elements", "Elements of all tables together."),
    ("memories", parse_count, 1, SIGNED_64, "memory-count limit", "memories",
     "--memories", "Number of linear memories."),
    ("tables", parse_count, 1, SIGNED_64, "table limit", "tables",
     "--tables", "Number of tables."),
    ("instances", parse_count, 1, SIGNED_64, "instance limit", "core instances",
     "--instances", "Number of core instances."),
    ("module_size", parse_bytes, 1, MAX_MODULE_BYTES, "module-size limit", "bytes",
     "--module-size", "Bytes of the module file."),
    ("functions", parse_count, 1, SIGNED_64, "function limit", "functions",
     "--functions", "Number of functions."),
    ("function_size", parse_bytes, 1, SIGNED_64, "function-size limit", "bytes of code",
     "--function-size", "Code bytes of one function."),
    ("locals", parse_count, 1, SIGNED_64, "local limit", "locals",
     "--locals", "Locals of one function."),
    ("nesting", parse_count, 1, SIGNED_64, "nesting limit", "blocks",
     "--nesting", "Depth of nested blocks in one function."),
    ("complexity", parse_count, 1, SIGNED_64, "complexity limit", "µs on one core",
     "--complexity", "Estimated microseconds to compile; a twentieth for one function."),
    ("stdout", parse_bytes, 1, SIGNED_64, "stdout limit", "bytes",
     "--stdout-limit", "Bytes written to stdout."),
    ("stderr", parse_bytes, 1, SIGNED_64, "stderr limit", "bytes",
     "--stderr-limit", "Bytes written to stderr."),
    ("handles", parse_count, 1, SIGNED_64, "handle limit", "handles",
     "--handles", "Resource handles of the component and the host."),
    ("tasks", parse_count, 1, SIGNED_64, "task limit", "tasks",
     "--tasks", "Tasks of an asynchronous component at the same time."),
    ("open_files", parse_count, 1, SIGNED_64, "", "",
     "--open-files", "Files and directories open at the same time."),
    ("sockets", parse_count, 1, SIGNED_64, "", "",
     "--sockets", "Sockets open at the same time."),
    ("connections", parse_count, 1, SIGNED_64, "connection limit", "connections",
     "--connections", "Connections in total."),
    ("network_bytes", parse_bytes, 1, SIGNED_64, "network-byte limit", "bytes",
     "--network-bytes", "Bytes sent and received."),
    ("resolver_answers", parse_count, 1, SIGNED_64, "", "",
     "--resolver-answers", "Addresses of one name."),
    ("http_requests", parse_count, 1, SIGNED_64, "", "",
     "--http-requests", "HTTP exchanges at the same time."),
    ("http_fields", parse_count, 1, SIGNED_64, "HTTP-field limit", "fields of one message",
     "--http-fields", "Fields of one HTTP message."),
    ("http_field_bytes", parse_bytes, 1, SIGNED_64, "HTTP-field-byte limit", "bytes of one message's fields",
     "--http-field-bytes", "Bytes of the fields of one HTTP message."),
    ("disk_written", parse_bytes, 1, SIGNED_64, "disk-write limit", "bytes",
     "--disk-written", "Bytes written to granted files."),
    ("host_calls", parse_count, 1, SIGNED_64, "host-call limit", "calls",
     "--host-calls", "Calls from the guest into the host."),
    ("host_bytes", parse_bytes, 1, SIGNED_64, "host-byte limit", "bytes in one call",
     "--host-bytes", "Bytes copied between guest and host in one call."),
    ("value_bytes", parse_bytes, 1, SIGNED_64, "value-byte limit", "bytes in one value",
     "--value-bytes", "Bytes of host memory for one value."),
)))  # fmt: skip
"""Every limit, in the order of the fields of :class:`Limits`, of help and of the documentation."""
_ROWS = {row.name: row for row in LIMIT_ROWS}

LIMIT_NAMES = tuple(_ROWS)
"""The name of every limit, in the order of the documentation."""
LIMIT_ALIASES: Mapping[str, str] = {
    alias: row.name for row in LIMIT_ROWS if (alias := row.flag[2:].replace("-", "_")) != row.name
}
"""Other keywords for a limit, after its option: ``memory_limit`` for ``memory``."""


def parse_limit(name: str, value: object) -> int | float | None:
    """Parse ``value`` for the limit ``name``; ``None`` lifts the limit.

    Raise :class:`~aegis.errors.PolicyError` for a value out of range, and for ``None`` for ``stack``.
    """
    if value is None:
        if name == "stack":
            raise PolicyError("stack: this limit cannot be lifted; the maximum is 2 MiB")
        return None
    row = _ROWS[name]
    parsed = row.parse(value, name)
    if not row.low <= parsed <= row.high:
        shown, least, most = (format_limit(name, number) for number in (parsed, row.low, row.high))
        raise PolicyError(f"{name}: {shown} is out of range: give a value from {least} to {most}")
    return parsed


def default_of(name: str) -> str:
    """Return the default of the limit ``name`` as text that :func:`parse_limit` reads, ``none`` without a limit."""
    default: Any = next(field.default for field in fields(Limits) if field.name == name)
    if default is None:
        return "none"
    text = format_limit(name, default).replace(" ", "").replace(",", "")
    return f"{text[:-6]}e6" if text.endswith("000000") else text


def format_limit(name: str, value: float) -> str:
    """Return a value of the limit ``name`` with its unit: bytes, seconds or a count."""
    parse = _ROWS[name].parse
    show = format_bytes if parse is parse_bytes else format_seconds if parse is parse_seconds else format_count
    return show(value)


def without_aliases(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``keywords`` with the names of the limits; raise ``PolicyError`` for a limit that is given twice."""
    made: dict[str, Any] = {}
    for name, value in keywords.items():
        known = LIMIT_ALIASES.get(name, name)
        if known in made:
            raise PolicyError(
                f"{known} and {name if known != name else _alias_of(name)} are one limit: give one of them"
            )
        made[known] = value
    return made


def _alias_of(name: str) -> str:
    return next(alias for alias, limit in LIMIT_ALIASES.items() if limit == name)


TRUSTED = " if you trust its origin"
"""Appended to the remedy of limits on compilation, which protect the host from the artifact."""


def flag_of(name: str) -> str:
    """Return the command-line option that sets the limit ``name``."""
    return _ROWS[name].flag


def exceeded(
    name: str, used: float, allowed: float | None, *, unit: str = "", after: str = "", remedy: str = ""
) -> str:
    """Return the message of an exceeded limit: ``… exceeded (used/limit unit): raise it with keyword or option``.

    ``unit`` replaces the default unit, ``after`` is inserted after the numbers, ``remedy`` is appended.
    """
    row = _ROWS[name]
    show = format_seconds if name == "timeout" else format_count
    numbers = f"{show(used)}/{show(allowed or 0)} {unit or row.unit}"
    return f"{row.label} exceeded ({numbers}){after}: raise it with {name} or {row.flag}{remedy}"
