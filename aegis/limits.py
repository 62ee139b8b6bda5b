"""Limits: what one sandbox may use, with their units. Every one but ``fuel`` is on by default.

A limit of ``None`` is lifted; it has to be written out, and the report then says so. ``fuel`` is off until a number
is given, for counting it costs compute time, and the deadline bounds that already. Nothing here
enforces anything: each field's comment names the module that does, and :func:`exceeded` words its error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aegis.errors import PolicyError
from aegis.support.lean import dataclass, fields, replace
from aegis.text import near, printable

__all__ = [
    "LIMIT_NAMES",
    "TRUSTED",
    "Limits",
    "bounds_of",
    "exceeded",
    "flag_of",
    "format_bytes",
    "format_count",
    "format_limit",
    "format_seconds",
    "parse_bytes",
    "parse_count",
    "parse_limit",
    "parse_seconds",
]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MAX_STACK = 2 * MIB  # above it the engine aborts the process (F29)
MIN_STACK = 16 * KIB
MAX_MEMORY = 4 * GIB  # what a 32-bit memory can address
MAX_TABLE_ELEMENTS = 10_000_000
MAX_MODULE_SIZE = GIB

_BYTE_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": KIB, "m": MIB, "g": GIB, "kib": KIB, "mib": MIB, "gib": GIB, "tib": 1 << 40,
}  # fmt: skip
_TIME_UNITS = {
    "": 10**9, "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
"""In nanoseconds, so that a quantity as it is written is exact."""
_COUNT_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
_QUANTITY = r"(?a:\s*([0-9]+(?:_[0-9]+)*)(?:\.([0-9]+))?(?:[eE][+]?([0-9]{1,2}))?\s*([A-Za-z]*)\s*)"
_MOST_CHARACTERS = 40
_HUGE = 1 << 256


def _read(text: str, what: str, units: Mapping[str, int], example: str) -> float | int:
    """Read a quantity exactly: an ``int`` if it is whole in the smallest unit."""
    import re  # numbers do without

    match = re.fullmatch(_QUANTITY, text.replace("µ", "u").replace("\u03bc", "u"))
    if match is None or len(text) > _MOST_CHARACTERS:
        raise PolicyError(f"{what}: '{printable(text, 60)}' is not a quantity; write it like {example}")
    whole, decimals, power, unit = match.group(1).replace("_", ""), match.group(2) or "", match.group(3), match.group(4)
    if unit.lower() not in units:
        raise PolicyError(f"{what}: {unit!r} is not a unit; use one of {', '.join(u for u in units if u)}")
    value = int(whole + decimals) * units[unit.lower()] * int("1" + "0" * int(power or 0))
    divisor = int("1" + "0" * len(decimals))
    return value / divisor if value % divisor else value // divisor


def _quantity(value: object, what: str, units: Mapping[str, int], example: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise PolicyError(f"{what}: expected a quantity like {example}, not {type(value).__name__}")
    if isinstance(value, str):
        value = _read(value, what, units, example)
    if not -_HUGE < value < _HUGE:  # nor is a NaN
        raise PolicyError(f"{what}: the number is not finite, or far too large; write it like {example}")
    if value <= 0:
        raise PolicyError(f"{what}: {value:g} is not a limit; it must be more than zero")
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
        from datetime import timedelta  # a module that only such a duration needs, and then it is loaded

        value = value.total_seconds() if isinstance(value, timedelta) else value
    quantity = _quantity(value, what, _TIME_UNITS, "30s")
    return quantity / 1e9 if isinstance(value, str) else float(quantity)


def parse_count(value: object, what: str = "count") -> int:
    """Parse a whole count: an ``int``, or text such as ``1000``, ``1_000_000``, ``1e9`` or ``10k``."""
    number = _quantity(value, what, _COUNT_UNITS, "1e9")
    if number != int(number):
        raise PolicyError(f"{what}: {value!r} is not a whole number")
    return int(number)


def format_bytes(size: float) -> str:
    """Return ``size`` bytes in the largest binary unit that is at least one, such as ``64 MiB``."""
    for unit, scale in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size >= scale:
            return f"{size / scale:.4g} {unit}"
    return "1 byte" if size == 1 else f"{size:,.0f} bytes"


def format_seconds(seconds: float) -> str:
    """Return a duration with a unit that suits it, such as ``30 s`` or ``1.5 ms``."""
    if seconds >= 10_000:
        return f"{seconds:,.0f} s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.4g} {unit}"
    return f"{seconds * 1e9:.4g} ns"


def format_count(number: float) -> str:
    """Return a count with thousands separated."""
    return f"{number:,}" if isinstance(number, int) else f"{number:,.0f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one sandbox may use; each field takes ``None`` to lift that limit, and ``fuel`` is ``None`` by default.

    ``fuel``, ``timeout`` and ``host_bytes`` are for one call of the embedder's, the calls inside it included; they
    start anew with instantiation and with each call. ``value_bytes`` is for one value. Every other limit is for the
    life of the sandbox (``reset`` starts a new one).
    """

    memory: int | None = 64 * MIB
    """Bytes of all linear memories together, initial and grown, exactly (engine)."""
    fuel: int | None = None
    """Units of guest work for one call, about one an instruction; ``None`` does not count them (engine).

    The same call burns the same fuel on every machine, so it makes the end of a run repeatable, which ``timeout`` does
    not. Counting takes some 10 to 40 % more of a guest's compute time.
    """
    timeout: float | None = 30.0
    """Wall-clock seconds for one call, host calls included, and so the most of its processor time (engine, and every
    wait in host)."""
    stack: int = 512 * KIB
    """Bytes of guest stack, 16 KiB to 2 MiB; it cannot be lifted (engine)."""
    table_elements: int | None = 10_000
    """Elements of all tables together, initial and grown (engine).

    Never more; exactly as many where one table can grow. Several that can are held to an equal share each.
    """
    memories: int | None = 10
    """Linear memories of a sandbox (engine)."""
    tables: int | None = 16
    """Tables of a sandbox (engine)."""
    instances: int | None = 64
    """Core instances of a sandbox (engine)."""
    module_size: int | None = 32 * MIB
    """Bytes of the artifact, checked before compiling (engine)."""
    functions: int | None = 100_000
    """Functions of an artifact's modules, before compiling (engine)."""
    function_size: int | None = MIB
    """Bytes of code of one function, before compiling (engine)."""
    locals: int | None = 20_000
    """Locals and parameters of one function, before compiling (engine)."""
    nesting: int | None = 10_000
    """Blocks, loops and ifs inside each other in one function, before compiling (engine)."""
    complexity: int | None = 100_000_000
    """What compiling is estimated to take, in microseconds on one core and erring upwards; one function has a
    twentieth at most (engine)."""
    stdout: int | None = MIB
    """Bytes written to stdout (host)."""
    stderr: int | None = 256 * KIB
    """Bytes written to stderr (host)."""
    handles: int | None = 4096
    """Resource handles that a component's instances hold, and those of its resources that the host holds (engine)."""
    open_files: int | None = 64
    """Files and directories open at once, preopens not counted (host)."""
    sockets: int | None = 16
    """Sockets open at once, connections accepted and names being looked up included (host)."""
    connections: int | None = 1_000
    """Connections begun or accepted in all (host)."""
    network_bytes: int | None = 256 * MIB
    """Bytes sent and received, both ways together (host)."""
    resolver_answers: int | None = 64
    """Addresses of one name that a guest is given (host)."""
    http_requests: int | None = 16
    """HTTP exchanges under way at once (host)."""
    http_fields: int | None = 256
    """Fields of one HTTP message, headers or trailers (host)."""
    http_field_bytes: int | None = 64 * KIB
    """Bytes of the names and values of one HTTP message's fields together (host)."""
    disk_written: int | None = 64 * MIB
    """Bytes written to, or allocated in, granted files (host)."""
    host_calls: int | None = 1_000_000
    """Calls from the guest into the host (engine)."""
    host_bytes: int | None = GIB
    """Bytes copied between guest memory and the host in one call, both ways together (engine)."""
    value_bytes: int | None = 64 * MIB
    """Bytes that one value may make the host hold, at what Python needs for it: a result, the arguments of one host
    call, one read of guest memory; of an isolated sandbox the arguments of a call too, which pass through a process
    that holds them (engine).

    What the host keeps for the guest from call to call, such as listings of directories, must fit in as many (host).
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            parsed = parse_limit(field.name, value)
            if parsed != value or type(parsed) is not type(value):
                object.__setattr__(self, field.name, parsed)

    def with_(self, **changes: object) -> Limits:
        """Return these limits with ``changes`` applied; values may be text with units."""
        for name in changes:
            if name not in LIMIT_NAMES:
                hint = "".join(f"; did you mean {n}?" for n in near(name, LIMIT_NAMES, 1))
                raise PolicyError(f"{name!r} is not a limit{hint}")
        return replace(self, **changes)  # type: ignore[arg-type]

    def lifted(self) -> tuple[str, ...]:
        """Return the names of the limits that are on by default, and off here."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is None and f.default is not None)


_PARSERS: dict[str, Callable[[object, str], float | int]] = {
    "memory": parse_bytes,
    "fuel": parse_count,
    "timeout": parse_seconds,
    "stack": parse_bytes,
    "table_elements": parse_count,
    "memories": parse_count,
    "tables": parse_count,
    "instances": parse_count,
    "module_size": parse_bytes,
    "functions": parse_count,
    "function_size": parse_bytes,
    "locals": parse_count,
    "nesting": parse_count,
    "complexity": parse_count,
    "stdout": parse_bytes,
    "stderr": parse_bytes,
    "handles": parse_count,
    "open_files": parse_count,
    "sockets": parse_count,
    "connections": parse_count,
    "network_bytes": parse_bytes,
    "resolver_answers": parse_count,
    "http_requests": parse_count,
    "http_fields": parse_count,
    "http_field_bytes": parse_bytes,
    "disk_written": parse_bytes,
    "host_calls": parse_count,
    "host_bytes": parse_bytes,
    "value_bytes": parse_bytes,
}
_RANGES: dict[str, tuple[float, float]] = {
    "stack": (MIN_STACK, MAX_STACK),
    "memory": (1, MAX_MEMORY),
    "table_elements": (1, MAX_TABLE_ELEMENTS),
    "module_size": (1, MAX_MODULE_SIZE),
    "timeout": (1e-3, 366 * 86400.0),
}
_COUNTS = (1, 2**63 - 1)

LIMIT_NAMES = tuple(_PARSERS)
"""Every limit's name, in the order of the documentation."""


def parse_limit(name: str, value: object) -> int | float | None:
    """Parse ``value`` for the limit ``name``; ``None`` lifts it, except for ``stack``."""
    if value is None:
        if name == "stack":
            raise PolicyError("stack: it cannot be lifted; the most is 2 MiB")
        return None
    parse = _PARSERS[name]
    parsed = parse(value, name)
    low, high = bounds_of(name)
    if not low <= parsed <= high:
        shown, least, most = (format_limit(name, number) for number in (parsed, low, high))
        raise PolicyError(f"{name}: {shown} is out of range; the least is {least}, the most {most}")
    return parsed


def bounds_of(name: str) -> tuple[float, float]:
    """Return the least and the most that the limit ``name`` may be."""
    return _RANGES.get(name, _COUNTS)


def format_limit(name: str, value: float) -> str:
    """Return a value of the limit ``name`` with its unit: bytes, seconds or a count."""
    parse = _PARSERS[name]
    show = format_bytes if parse is parse_bytes else format_seconds if parse is parse_seconds else format_count
    return show(value)


_FLAGS = {
    "memory": "--memory-limit", "fuel": "--fuel-limit", "stack": "--stack-limit", "stdout": "--stdout-limit",
    "stderr": "--stderr-limit",
}  # fmt: skip
"""The options that are not called as their limit."""
_WORDS = {
    "memory": ("memory limit", "bytes"),
    "fuel": ("fuel limit", "units in one call"),
    "timeout": ("deadline", "in one call"),
    "stack": ("stack limit", "bytes"),
    "table_elements": ("table-element limit", "elements"),
    "memories": ("memory-count limit", "memories"),
    "tables": ("table limit", "tables"),
    "instances": ("instance limit", "core instances"),
    "module_size": ("module-size limit", "bytes"),
    "functions": ("function limit", "functions"),
    "function_size": ("function-size limit", "bytes of code"),
    "locals": ("local limit", "locals"),
    "nesting": ("nesting limit", "blocks"),
    "complexity": ("complexity limit", "µs on one core"),
    "stdout": ("stdout limit", "bytes"),
    "stderr": ("stderr limit", "bytes"),
    "handles": ("handle limit", "handles"),
    "connections": ("connection limit", "connections"),
    "network_bytes": ("network-byte limit", "bytes"),
    "http_fields": ("HTTP-field limit", "fields of one message"),
    "http_field_bytes": ("HTTP-field-byte limit", "bytes of one message's fields"),
    "disk_written": ("disk-write limit", "bytes"),
    "host_calls": ("host-call limit", "calls"),
    "host_bytes": ("host-byte limit", "bytes in one call"),
    "value_bytes": ("value-byte limit", "bytes in one value"),
}
"""Label and unit of each limit in errors. The other limits raise none: the guest gets an error code, or less."""

TRUSTED = " if you trust its origin"
"""The condition under which a limit on what is compiled may be raised."""


def flag_of(name: str) -> str:
    """Return the option of the command line that sets the limit ``name``."""
    return _FLAGS.get(name) or "--" + name.replace("_", "-")


def exceeded(
    name: str, used: float, allowed: float | None, *, unit: str = "", after: str = "", remedy: str = ""
) -> str:
    """Return the message of an exceeded limit, ``… exceeded (used/limit): raise it with keyword or option``.

    ``unit`` replaces the usual unit, ``after`` follows the numbers, and ``remedy`` the option.
    """
    label, usual = _WORDS[name]
    show = format_seconds if name == "timeout" else format_count
    numbers = f"{show(used)}/{show(allowed or 0)} {unit or usual}"
    return f"{label} exceeded ({numbers}){after}: raise it with {name} or {flag_of(name)}{remedy}"
