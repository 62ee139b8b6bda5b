"""The options of the command line as a table, and the policy built from them: the policy file, then the options.

:mod:`aegis.cli.click_options` builds click's commands from this table. ``aegis run`` parses its line with the table
alone, without click.
"""

from __future__ import annotations

from collections.abc import Callable

from aegis.cli.command_line import FORMATS, CommandOption, OptionKind, UsageMistake
from aegis.cli.input_files import read_pipe
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

__all__ = ["GRANTS", "GROUP", "LIMIT_OPTIONS", "RUN", "chosen_limits", "limits", "make_policy", "shared"]

LIMIT_OPTIONS = {
    "--memory-limit": ("memory", "64MiB", "Bytes of all linear memories together."),
    "--fuel-limit": ("fuel", "none", "Fuel of the call, such as 1e9; about one unit per instruction."),
    "--timeout": ("timeout", "30s", "Wall-clock time of the run, including loading."),
    "--stack-limit": ("stack", "512KiB", "Bytes of guest stack."),
    "--module-size": ("module_size", "32MiB", "Bytes of the module file."),
    "--functions": ("functions", "100000", "Number of functions."),
    "--function-size": ("function_size", "1MiB", "Code bytes of one function."),
    "--locals": ("locals", "20000", "Locals of one function."),
    "--nesting": ("nesting", "10000", "Depth of nested blocks in one function."),
    "--complexity": ("complexity", "100e6", "Estimated microseconds to compile; a twentieth for one function."),
    "--table-elements": ("table_elements", "10000", "Elements of all tables together."),
    "--memories": ("memories", "10", "Number of linear memories."),
    "--tables": ("tables", "16", "Number of tables."),
    "--instances": ("instances", "64", "Number of core instances."),
    "--stdout-limit": ("stdout", "1MiB", "Bytes written to stdout."),
    "--stderr-limit": ("stderr", "256KiB", "Bytes written to stderr."),
    "--handles": ("handles", "4096", "Resource handles of the component and the host."),
    "--open-files": ("open_files", "64", "Files and directories open at the same time."),
    "--sockets": ("sockets", "16", "Sockets open at the same time."),
    "--connections": ("connections", "1000", "Connections in total."),
    "--network-bytes": ("network_bytes", "256MiB", "Bytes sent and received."),
    "--resolver-answers": ("resolver_answers", "64", "Addresses of one name."),
    "--http-requests": ("http_requests", "16", "HTTP exchanges at the same time."),
    "--http-fields": ("http_fields", "256", "Fields of one HTTP message."),
    "--http-field-bytes": ("http_field_bytes", "64KiB", "Bytes of the fields of one HTTP message."),
    "--disk-written": ("disk_written", "64MiB", "Bytes written to granted files."),
    "--host-calls": ("host_calls", "1000000", "Calls from the guest into the host."),
    "--host-bytes": ("host_bytes", "1GiB", "Bytes copied between guest and host in one call."),
    "--value-bytes": ("value_bytes", "64MiB", "Bytes of host memory for one value."),
}


def limits(**defaults: str) -> tuple[CommandOption, ...]:
    """Return an option for each limit; ``none`` lifts it. ``defaults`` replaces defaults for a command."""
    return tuple(
        CommandOption((flag, f"limit_{name}"), f"{text} [{defaults.get(name, default)}]", metavar="LIMIT")
        for flag, (name, default, text) in LIMIT_OPTIONS.items()
    )


GRANTS = (
    CommandOption(
        ("--isolate",), "Run the guest in a confined worker process; strict: require every layer.",
        OptionKind.IMPLIED, "[=strict]", choices=("on", "strict"), implied="on", known=("on", "strict"),
    ),
    CommandOption(("--allow-read",), "Grant read access to a file or directory.", OptionKind.EACH, "HOST[::GUEST]"),
    CommandOption(("--allow-write",), "Grant read and write access.", OptionKind.EACH, "HOST[::GUEST]"),
    CommandOption(("--allow-env",), "Pass an environment variable, or set it.", OptionKind.EACH, "NAME[=VALUE]"),
    CommandOption(
        ("--allow-clock",), "system (default), coarse:1ms, fixed:INSTANT, virtual, deny.", OptionKind.IMPLIED,
        "[=MODE]", implied="system", known=("system", "coarse", "virtual", "deny"),
    ),
    CommandOption(
        ("--allow-random",), "system (default), seed:42, deny.", OptionKind.IMPLIED, "[=MODE]", implied="system",
        known=("system", "deny"),
    ),
    CommandOption(
        ("--allow-logging",), "Record log lines from LEVEL on (info).", OptionKind.IMPLIED, "[=LEVEL]", implied="info",
        known=LOG_LEVELS,
    ),
    CommandOption(
        ("--allow-net",),
        "Allow connections to https://HOST, GET https://HOST, tcp://IP:PORT … and resolving the name.",
        OptionKind.EACH, "PATTERN",
    ),
    CommandOption(("--listen",), "Allow listening on tcp://127.0.0.1:8080 …", OptionKind.EACH, "PATTERN"),
    CommandOption(("--deny-net",), "Deny connections; overrides --allow-net.", OptionKind.EACH, "PATTERN"),
    CommandOption(("--config-value",), "Set a value of wasi:config/store.", OptionKind.EACH, "KEY=VALUE"),
    CommandOption(
        ("--allow-keyvalue",), "Grant a bucket of wasi:keyvalue: memory (default), sqlite:FILE.", OptionKind.EACH,
        "BUCKET[=STORE]",
    ),
    CommandOption(("--stdin",), "Standard input of the guest. [empty]", OptionKind.EACH, "inherit|empty|FILE"),
)  # fmt: skip
"""The options for grants, which all commands that run guests have."""

_VERBOSE = CommandOption(
    ("-v", "--verbose"), "Print more; -vv prints the traceback of an internal error.", OptionKind.COUNT
)
_QUIET = CommandOption(("-q", "--quiet"), "Print only results and errors.", OptionKind.FLAG)
_CONFIG = CommandOption(("-c", "--config"), "Read the policy from FILE (aegis.toml).", metavar="FILE")

GROUP = (
    _CONFIG,
    CommandOption(("-f", "--format", "form"), "Format of results.", choices=FORMATS, default="human"),
    _VERBOSE,
    _QUIET,
)
"""The options that precede the name of a command."""


def shared(*, short: bool) -> tuple[CommandOption, ...]:
    """Return the options that every command also accepts after its name; with ``short``, ``-f`` is the format."""
    names = ("-f", "--format", "form") if short else ("--format", "form")
    return (CommandOption(names, "Format of the result.", choices=FORMATS), _VERBOSE, _QUIET)


RUN = (
    CommandOption(("-e", "-f", "--function"), "Call this export; ARGS are its arguments.", metavar="NAME"),
    CommandOption(("--invoke",), "Call a component's export, in WAVE: 'iface#func(1, \"x\")'.", metavar="CALL"),
    *GRANTS,
    *limits(),
    CommandOption(("--trap-missing",), "Let missing imports trap when called.", OptionKind.FLAG),
    CommandOption(("--metrics",), "Print a report of resource usage.", OptionKind.FLAG),
    CommandOption(("--events",), "Write every event as a line of JSON.", metavar="FILE|-"),
    CommandOption(("--no-cache",), "Do not read or write compiled code on disk.", OptionKind.FLAG),
    _CONFIG,
)
"""The options of ``aegis run``, in addition to the shared ones."""


def make_policy(config: str | None, options: dict[str, Any], *, capture: bool) -> Policy:
    """Return the policy of a command line.

    ``capture`` stores the guest's output for the report instead of passing it through. Raise
    :class:`~aegis.errors.PolicyError` for an invalid grant or limit.
    """
    policy = Policy() if config is None else _read(config)
    limits = chosen_limits({name: value for name, value in options.items() if name.startswith("limit_")})
    mode = "capture" if capture else "inherit"
    return replace(
        policy,
        limits=replace(policy.limits, **limits),
        filesystem=policy.filesystem + _filesystem(options),
        environment=_environment(policy.environment, options),
        stdio=StdioCapability(stdin=_stdin(options["stdin"]), stdout=mode, stderr=mode),
        config=_config(policy.config, options),
        **_isolation(policy, options),
        **_modes(options),
        **_network(policy, options),
        **_keyvalue(policy, options),
    )


def chosen_limits(options: dict[str, Any]) -> dict[str, Any]:
    """Return the limits that ``options``, such as ``limit_memory``, set; ``none`` lifts one."""
    return {n[6:]: None if value == "none" else value for n, value in options.items() if value is not None}


def _read(config: str) -> Policy:
    from aegis.policy.file import MAX_POLICY_BYTES, decode_policy, load_policy

    if not config:
        raise PolicyError("--config: the file name is empty; name a policy file, such as aegis.toml")
    try:
        piped = read_pipe(config, MAX_POLICY_BYTES + 1)
    except ArtifactNotFound:
        raise PolicyError("is a pipe without a writer; name a policy file", source=config) from None
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
        raise UsageMistake(f"--stdin is given {len(given)} times; give it once")
    if not given:
        return "empty"
    if not given[0]:
        raise PolicyError("--stdin: the file name is empty; use inherit, empty or a file name")
    return given[0] if given[0] in ("inherit", "empty") else f"file:{given[0]}"
