"""The options of the command line as a table, and the policy that they make: the file first, the flags on top.

click makes its commands from this table (:mod:`aegis.cli.clicks`), and ``aegis run`` reads its line by it without
click.
"""

from __future__ import annotations

from collections.abc import Callable

from aegis.cli.source import read_pipe
from aegis.cli.words import FORMATS, Misuse, Option, Sort
from aegis.errors import ArtifactNotFound, PolicyError
from aegis.policy import (
    LOG_LEVELS,
    ClockCapability,
    ConfigCapability,
    EnvironmentCapability,
    FilesystemCapability,
    LoggingCapability,
    PathGrant,
    Policy,
    RandomCapability,
    StdioCapability,
)
from aegis.support.lean import Any, replace

__all__ = ["GRANTS", "GROUP", "LIMIT_OPTIONS", "RUN", "limits", "make_policy", "shared"]

LIMIT_OPTIONS = {
    "--memory-limit": ("memory", "64MiB", "Linear memory, all together."),
    "--fuel-limit": ("fuel", "none", "Guest work for the call, such as 1e9; about one unit an instruction."),
    "--timeout": ("timeout", "30s", "Wall-clock time of the run, loading included."),
    "--stack-limit": ("stack", "512KiB", "Guest stack."),
    "--module-size": ("module_size", "32MiB", "Size of the module file."),
    "--functions": ("functions", "100000", "Functions, before compiling."),
    "--function-size": ("function_size", "1MiB", "Code of one function, before compiling."),
    "--locals": ("locals", "20000", "Locals of one function, before compiling."),
    "--nesting": ("nesting", "10000", "Blocks inside each other in one function."),
    "--complexity": ("complexity", "100e6", "Estimated microseconds of compiling; a twentieth for one function."),
    "--table-elements": ("table_elements", "10000", "Elements of all tables together."),
    "--memories": ("memories", "10", "Linear memories."),
    "--tables": ("tables", "16", "Tables."),
    "--instances": ("instances", "64", "Instances."),
    "--stdout-limit": ("stdout", "1MiB", "Bytes written to stdout."),
    "--stderr-limit": ("stderr", "256KiB", "Bytes written to stderr."),
    "--handles": ("handles", "4096", "Handles of resources, a component's and the host's."),
    "--open-files": ("open_files", "64", "Files and directories open at once."),
    "--sockets": ("sockets", "16", "Sockets open at once."),
    "--connections": ("connections", "1000", "Connections in all."),
    "--network-bytes": ("network_bytes", "256MiB", "Bytes sent and received."),
    "--resolver-answers": ("resolver_answers", "64", "Addresses of one name."),
    "--http-requests": ("http_requests", "16", "HTTP exchanges at once."),
    "--http-fields": ("http_fields", "256", "Fields of one HTTP message."),
    "--http-field-bytes": ("http_field_bytes", "64KiB", "Bytes of one HTTP message's fields."),
    "--disk-written": ("disk_written", "64MiB", "Bytes written to granted files."),
    "--host-calls": ("host_calls", "1000000", "Calls into the host."),
    "--host-bytes": ("host_bytes", "1GiB", "Bytes copied between guest and host in one call."),
    "--value-bytes": ("value_bytes", "64MiB", "Bytes that one value may make the host hold."),
}


def limits(**defaults: str) -> tuple[Option, ...]:
    """Return an option for each limit; ``none`` lifts one. ``defaults`` are those that differ for a command."""
    return tuple(
        Option((flag, f"limit_{name}"), f"{text} [{defaults.get(name, default)}]", metavar="LIMIT")
        for flag, (name, default, text) in LIMIT_OPTIONS.items()
    )


GRANTS = (
    Option(
        ("--isolate",), "Run it in a worker process that the system confines; strict: only with every layer.",
        Sort.IMPLIED, "[=strict]", choices=("on", "strict"), implied="on", known=("on", "strict"),
    ),
    Option(("--allow-read",), "Let it read a file or directory.", Sort.EACH, "HOST[::GUEST]"),
    Option(("--allow-write",), "Let it read and write there.", Sort.EACH, "HOST[::GUEST]"),
    Option(("--allow-env",), "Pass or set a variable.", Sort.EACH, "NAME[=VALUE]"),
    Option(
        ("--allow-clock",), "system (default), coarse:1ms, fixed:INSTANT, deny.", Sort.IMPLIED, "[=MODE]",
        implied="system", known=("system", "coarse", "virtual", "deny"),
    ),
    Option(
        ("--allow-random",), "system (default), seed:42, deny.", Sort.IMPLIED, "[=MODE]", implied="system",
        known=("system", "deny"),
    ),
    Option(
        ("--allow-logging",), "Keep its log from LEVEL on (info).", Sort.IMPLIED, "[=LEVEL]", implied="info",
        known=LOG_LEVELS,
    ),
    Option(
        ("--allow-net",),
        "Let a component reach https://HOST, GET https://HOST, tcp://IP:PORT … (names may be looked up).",
        Sort.EACH, "PATTERN",
    ),
    Option(("--listen",), "Let it listen at tcp://127.0.0.1:8080 …", Sort.EACH, "PATTERN"),
    Option(("--deny-net",), "Deny wins over --allow-net.", Sort.EACH, "PATTERN"),
    Option(("--config-value",), "A value of wasi:config/store.", Sort.EACH, "KEY=VALUE"),
    Option(
        ("--allow-keyvalue",), "Let it open a bucket of wasi:keyvalue: memory (default), sqlite:FILE.", Sort.EACH,
        "BUCKET[=STORE]",
    ),
    Option(("--stdin",), "Its standard input. [empty]", Sort.EACH, "inherit|empty|FILE"),
)  # fmt: skip
"""The options that grant something, of every command that runs guests."""

_VERBOSE = Option(("-v", "--verbose"), "Say more; twice, show a defect's traceback.", Sort.COUNT)
_QUIET = Option(("-q", "--quiet"), "Say nothing but results and errors.", Sort.FLAG)
_CONFIG = Option(("-c", "--config"), "Read the policy from FILE (aegis.toml).", metavar="FILE")

GROUP = (
    _CONFIG,
    Option(("-f", "--format", "form"), "How results are shown.", choices=FORMATS, default="human"),
    _VERBOSE,
    _QUIET,
)
"""The options before the name of a command."""


def shared(*, short: bool) -> tuple[Option, ...]:
    """Return the options that every command takes after its name too; ``short``: ``-f`` is the format."""
    names = ("-f", "--format", "form") if short else ("--format", "form")
    return (Option(names, "How the result is shown.", choices=FORMATS), _VERBOSE, _QUIET)


RUN = (
    Option(("-e", "-f", "--function"), "Call this export, with ARGS by its signature.", metavar="NAME"),
    Option(("--invoke",), "Call a component's export, in WAVE: 'iface#func(1, \"x\")'.", metavar="CALL"),
    *GRANTS,
    *limits(),
    Option(("--trap-missing",), "Let imports that nothing provides trap when called.", Sort.FLAG),
    Option(("--metrics",), "Print a report of what the run used.", Sort.FLAG),
    Option(("--events",), "Write every event as a line of JSON.", metavar="FILE|-"),
    Option(("--no-cache",), "Neither read nor write compiled code on disk.", Sort.FLAG),
    _CONFIG,
)
"""The options of ``aegis run`` alone; it has the shared ones too."""


def make_policy(config: str | None, options: dict[str, Any], *, capture: bool) -> Policy:
    """Return the policy of a command line.

    ``capture`` keeps the guest's output for the report instead of passing it through. Raise
    :class:`~aegis.errors.PolicyError` for what means nothing.
    """
    policy = Policy() if config is None else _read(config)
    limits = {n[6:]: None if v == "none" else v for n, v in options.items() if n.startswith("limit_") and v is not None}
    mode = "capture" if capture else "inherit"
    return replace(
        policy,
        limits=policy.limits.with_(**limits),
        filesystem=policy.filesystem + _filesystem(options),
        environment=_environment(policy.environment, options),
        stdio=StdioCapability(stdin=_stdin(options["stdin"]), stdout=mode, stderr=mode),
        config=_config(policy.config, options),
        **_isolation(policy, options),
        **_modes(options),
        **_network(policy, options),
        **_keyvalue(policy, options),
    )


def _read(config: str) -> Policy:
    from aegis.policy.file import MAX_POLICY_BYTES, decode_policy, load_policy

    if not config:
        raise PolicyError("--config: an empty name is no file; name a policy file, such as aegis.toml")
    try:
        piped = read_pipe(config, MAX_POLICY_BYTES + 1)
    except ArtifactNotFound:
        raise PolicyError("is a pipe that nothing writes to; name a policy file", source=config) from None
    return load_policy(config) if piped is None else decode_policy(piped, source=config)


def _filesystem(options: dict[str, Any]) -> FilesystemCapability:
    reads = [PathGrant.parse(path) for path in options["allow_read"]]
    return FilesystemCapability(paths=(*reads, *(PathGrant.parse(path, write=True) for path in options["allow_write"])))


def _environment(granted: EnvironmentCapability, options: dict[str, Any]) -> EnvironmentCapability:
    for text in options["allow_env"]:
        granted = granted + EnvironmentCapability.parse(text)
    return granted


def _config(granted: ConfigCapability, options: dict[str, Any]) -> ConfigCapability:
    for text in options["config_value"]:
        granted = granted + ConfigCapability.parse(text)
    return granted


def _modes(options: dict[str, Any]) -> dict[str, Any]:
    parsers: dict[str, Callable[[str], Any]] = {
        "clock": ClockCapability.parse, "random": RandomCapability.parse, "logging": LoggingCapability.parse,
    }  # fmt: skip
    return {n: parse(options[f"allow_{n}"]) for n, parse in parsers.items() if options[f"allow_{n}"] is not None}


def _isolation(policy: Policy, options: dict[str, Any]) -> dict[str, Any]:
    if options["isolate"] is None:
        return {}
    from aegis.policy import Isolation

    given = policy.isolation or Isolation()
    return {"isolation": replace(given, strict=given.strict or options["isolate"] == "strict")}


def _network(policy: Policy, options: dict[str, Any]) -> dict[str, Any]:
    if not any(options[name] for name in ("allow_net", "deny_net", "listen")):
        return {}
    from aegis.policy import NetworkCapability

    capability = NetworkCapability(allow=options["allow_net"], deny=options["deny_net"], listen=options["listen"])
    return {"network": capability if policy.network is None else policy.network + capability}


def _keyvalue(policy: Policy, options: dict[str, Any]) -> dict[str, Any]:
    if not options["allow_keyvalue"]:
        return {}
    from aegis.policy import KeyValueCapability

    capability = policy.keyvalue or KeyValueCapability()
    for text in options["allow_keyvalue"]:
        capability = capability + KeyValueCapability.parse(text)
    return {"keyvalue": capability}


def _stdin(given: tuple[str, ...]) -> str:
    if len(given) > 1:
        raise Misuse(f"--stdin is given {len(given)} times; a guest has one standard input")
    if not given:
        return "empty"
    if not given[0]:
        raise PolicyError("--stdin: an empty name is no file; use inherit, empty or a file's name")
    return given[0] if given[0] in ("inherit", "empty") else f"file:{given[0]}"
