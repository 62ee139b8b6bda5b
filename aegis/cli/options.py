"""The options of the command line as a table, and the policy built from them: the policy file, then the options.

:mod:`aegis.cli.click_options` builds click's commands from this table. ``aegis run`` parses its line with the table
alone, without click.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from aegis.cli.command_line import FORMATS, CommandOption, OptionKind, UsageMistake
from aegis.cli.input_files import read_pipe
from aegis.errors import ArtifactNotFound, PolicyError
from aegis.limits import LIMIT_ROWS, Limits
from aegis.policy import Policy
from aegis.policy.capabilities import CAPABILITIES, declaration
from aegis.policy.statements import StdioCapability
from aegis.support.lean import TYPE_CHECKING, Any, replace

if TYPE_CHECKING:
    from aegis.policy.capabilities import CapabilityRow
    from aegis.policy.declaration import Flag
    from aegis.policy.file import PolicyFiles

__all__ = [
    "CONFIG", "ENABLE", "GROUP", "chosen_limits", "grants", "limits", "make_policy", "policy_files",
    "policy_limits", "refuse_second_reader", "run_options", "shared", "use_python_path",
]  # fmt: skip


def limits(**defaults: str) -> tuple[CommandOption, ...]:
    """Return an option for each limit; ``none`` lifts it. ``defaults`` replaces defaults for a command."""
    return tuple(
        CommandOption((row.flag, f"limit_{row.name}"), row.help, metavar="LIMIT", usual=defaults.get(row.name, ""))
        for row in LIMIT_ROWS
    )


_ISOLATE = CommandOption(
    ("--isolate",), "Run the guest in a confined worker process; strict: require every layer.",
    OptionKind.IMPLIED, "[=strict]", choices=("on", "strict"), implied="on", known=("on", "strict"),
)  # fmt: skip


ENABLE = CommandOption(
    ("--enable",), "Enable this WebAssembly proposal; some need --isolate. Repeatable.", OptionKind.EACH, "NAME"
)


def grants(words: Iterable[str] | None = None) -> tuple[CommandOption, ...]:
    """Return the options for grants, which all commands that run guests have.

    With ``words``, those of a command line, omit the options of each capability that no word names: the modules with
    their declarations need not be imported then.
    """
    named = None if words is None else {word.partition("=")[0] for word in words}
    rows = (row for row in CAPABILITIES if named is None or not named.isdisjoint(row.flags))
    return (_ISOLATE, *(_option(flag) for row in rows for flag in declaration(row.name).flags))


def _option(flag: Flag) -> CommandOption:
    kind = OptionKind.IMPLIED if flag.implied else OptionKind.EACH
    return CommandOption((flag.name,), flag.help, kind, flag.metavar, implied=flag.implied, known=flag.known)


_VERBOSE = CommandOption(
    ("-v", "--verbose"), "Print more; -vv prints the traceback of an internal error.", OptionKind.COUNT
)
_QUIET = CommandOption(("-q", "--quiet"), "Print only results and errors.", OptionKind.FLAG)
CONFIG = CommandOption(
    ("-c", "--config"), "Read the policy from FILE, or - for standard input; several merge in order.",
    OptionKind.EACH, "FILE",
)  # fmt: skip

GROUP = (
    CONFIG,
    CommandOption(
        ("-f", "--format", "form"),
        "Format of results; after run, -f names a function.",
        choices=FORMATS,
        default="human",
    ),
    _VERBOSE,
    _QUIET,
)
"""The options that precede the name of a command."""


def shared(*, short: bool, forms: tuple[str, ...] = FORMATS) -> tuple[CommandOption, ...]:
    """Return the options that every command also accepts after its name; with ``short``, ``-f`` is the format."""
    names = ("-f", "--format", "form") if short else ("--format", "form")
    return (CommandOption(names, "Format of the result.", choices=forms), _VERBOSE, _QUIET)


_FUNCTION = (
    CommandOption(
        ("-e", "-f", "--function"), "Call this export; ARGS are its arguments. The format is --format.", metavar="NAME"
    ),
    CommandOption(("--invoke",), "Call a component's export, in WAVE: 'iface#func(1, \"x\")'.", metavar="CALL"),
)
TRAP_MISSING = CommandOption(("--trap-missing",), "Let missing imports trap when called.", OptionKind.FLAG)
_RUNNING = (
    ENABLE,
    *limits(),
    TRAP_MISSING,
    CommandOption(("--metrics",), "Print a report of resource usage.", OptionKind.FLAG),
    CommandOption(("--events",), "Write every event as a line of JSON.", metavar="FILE|-"),
    CommandOption(("--no-cache",), "Do not read or write compiled code on disk.", OptionKind.FLAG),
    CONFIG,
)


def run_options(words: Iterable[str] | None = None) -> tuple[CommandOption, ...]:
    """Return the options of ``aegis run``, in addition to the shared ones; ``words`` is that of :func:`grants`."""
    return (*_FUNCTION, *grants(words), *_RUNNING)


def make_policy(config: Sequence[str], options: dict[str, Any], *, capture: bool) -> Policy:
    """Return the policy of a command line: that of the files ``config``, merged in order, then the options.

    ``capture`` stores the guest's output for the report instead of passing it through. Raise
    :class:`~aegis.errors.PolicyError` for an invalid grant or limit.
    """
    limits = chosen_limits({name: value for name, value in options.items() if name.startswith("limit_")})
    stated, named = _granted(options)
    mode = "capture" if capture else "inherit"
    stated["stdio"] = replace(stated.get("stdio") or StdioCapability(), stdout=mode, stderr=mode, sigpipe=not capture)
    named |= {"stdio.stdout", "stdio.stderr", "stdio.sigpipe", *(f"limits.{name}" for name in limits)}
    if limits:
        stated["limits"] = Limits(**limits)
    if options["isolate"] is not None:
        from aegis.policy.isolation import Isolation

        stated["isolation"] = Isolation(strict=options["isolate"] == "strict")
    policy = Policy(named=frozenset(named), proposals=options.get("enable") or (), **stated)
    if config:
        policy = policy_files(config).policy().merged(policy)
    if policy.imports:
        use_python_path()
    return policy


def use_python_path() -> None:
    """Let Python import from ``PYTHONPATH``, after all other folders; for objects that the command line names.

    The command itself runs without it (:mod:`aegis.cli`), so that no module there replaces one of the installation.
    """
    if sys.flags.ignore_environment:
        entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        sys.path += [os.path.abspath(entry) for entry in entries if entry and os.path.abspath(entry) not in sys.path]


def policy_limits(config: Sequence[str], options: dict[str, Any], modules: Iterable[str]) -> Limits:
    """Return the limits of the policy files ``config`` and then of ``options``, for commands that run no guest."""
    refuse_second_reader(config, modules)
    own = chosen_limits(options)
    named = frozenset(f"limits.{name}" for name in own)
    return policy_files(config).policy().merged(Policy(limits=Limits(**own), named=named)).limits


def _granted(options: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Return the capabilities that ``options`` state, by name, and the scalar keys that they name."""
    granted: dict[str, Any] = {}
    named: set[str] = set()
    for row in CAPABILITIES:
        given = _given(row, options)
        if given:
            declared = declaration(row.name)
            granted[row.name] = declared.stated(given)
            named |= {f"{row.name}.{key}" for flag in declared.flags if flag.dest in given for key in flag.keys}
    return granted, named


def _given(row: CapabilityRow, options: dict[str, Any]) -> dict[str, Any]:
    """Return the values of those options of a capability that the command line has."""
    given = {}
    for name in row.flags:
        dest = name.lstrip("-").replace("-", "_")
        value = options.get(dest)
        if value is None or value == ():
            continue
        once = isinstance(value, tuple) and any(f.once for f in declaration(row.name).flags if f.name == name)
        if once and len(value) > 1:
            raise UsageMistake(f"{name} is given {len(value)} times: give it once")
        given[dest] = value
    return given


def chosen_limits(options: dict[str, Any]) -> dict[str, Any]:
    """Return the limits that ``options``, such as ``limit_memory``, set; ``none`` lifts one."""
    return {n[6:]: None if value == "none" else value for n, value in options.items() if value is not None}


def policy_files(config: Iterable[str], *, collect: bool = False) -> PolicyFiles:
    """Read the policy files of ``-c``; ``-`` is standard input. ``collect`` is that of :class:`PolicyFiles`."""
    from aegis.policy.file import MAX_POLICY_BYTES, PolicyFiles

    files = PolicyFiles(collect=collect)
    for name in config:
        if not name:
            raise PolicyError("--config: the file name is empty: name a policy file, such as aegis.toml")
        if name == "-":
            files.decode(sys.stdin.buffer.read(MAX_POLICY_BYTES + 1), source="standard input")
            continue
        try:
            piped = read_pipe(name, MAX_POLICY_BYTES + 1)
        except ArtifactNotFound:
            raise PolicyError("is a pipe without a writer: name a policy file", source=name) from None
        if piped is None:
            files.load(name)
        else:
            files.decode(piped, source=name)
    return files


def refuse_second_reader(config: Iterable[str], modules: Iterable[str] = (), stdin: Iterable[str] = ()) -> None:
    """Raise :class:`UsageMistake` if ``-c -`` and another part of the command line both read standard input.

    ``modules`` are the files of the command, and ``stdin`` the values of its option ``--stdin``.
    """
    readers = [*("-c -" for name in config if name == "-"), *("the file -" for name in modules if name == "-")]
    readers += ["--stdin inherit" for value in stdin if value == "inherit"]
    if "-c -" in readers and len(readers) > 1:
        raise UsageMistake(f"{readers[0]} and {readers[1]} both read standard input: name a file for one of them")
