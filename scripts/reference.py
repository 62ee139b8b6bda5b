"""Make the tables of docs/reference/ from the code.

    python -m scripts.reference --write     write the tables of docs/ anew
    python -m scripts.reference --check     fail if one is not the code's

A page holds a table between two comments, ``<!-- table: NAME -->`` and ``<!-- end -->``. Each function in ``TABLES``
returns one table as Markdown. ``scripts/docs`` calls :func:`filled` when it builds a page, and a test compares the
pages of the checkout with the code.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import click

import aegis
from aegis import errors
from aegis.cli.commands import group
from aegis.limits import LIMIT_NAMES, LIMIT_ROWS, LimitRow, Limits, flag_of, format_limit
from aegis.observe.events import EVENTS, Event
from aegis.policy.isolation import LAYERS
from aegis.policy.keys import all_keys
from aegis.support.proposals import PROPOSALS

__all__ = ["ENDINGS", "TABLES", "filled", "main", "pages", "stale"]

ROOT = Path(__file__).resolve().parent.parent
_TABLE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown; a bar within a cell is escaped, and a line break becomes a space."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [" ".join(cell.split()).replace("|", "\\|") for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plain(text: str | None) -> str:
    """Return a docstring's text as Markdown: its roles and literals as code."""
    text = re.sub(r":[a-z]+:`~?(?:aegis\.)?(?:[a-z_0-9]+\.)*([^`]+)`", r"`\1`", text or "")
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def first_sentence(value: object) -> str:
    """Return the first sentence of a docstring."""
    paragraph = plain(inspect.getdoc(value)).split("\n\n", 1)[0]
    return re.split(r"(?<=[.])\s", " ".join(paragraph.split()), maxsplit=1)[0]


def attribute_docs(cls: type) -> dict[str, str]:
    """Return the text beneath each attribute of a class, from its source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for attribute, text in zip(body.body, body.body[1:], strict=False):
        if not isinstance(attribute, ast.AnnAssign):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(attribute.target)] = plain(inspect.cleandoc(str(text.value.value)))
    return found


# -- limits -------------------------------------------------------------------------------------------------

ENDINGS: Mapping[str, type[errors.AegisError] | str] = {
    "memory": errors.MemoryExceeded,
    "fuel": errors.OutOfFuel,
    "timeout": errors.DeadlineExceeded,
    "stack": errors.StackExhausted,
    **dict.fromkeys(("table_elements", "memories", "tables", "instances"), errors.MemoryExceeded),
    **dict.fromkeys(
        ("module_size", "functions", "function_size", "locals", "nesting", "complexity"), errors.ArtifactError
    ),
    **dict.fromkeys(("stdout", "stderr"), errors.OutputExceeded),
    **dict.fromkeys(("handles", "tasks", "connections", "network_bytes"), errors.QuotaExceeded),
    **dict.fromkeys(("http_fields", "http_field_bytes", "disk_written"), errors.QuotaExceeded),
    **dict.fromkeys(("host_calls", "host_bytes", "value_bytes"), errors.QuotaExceeded),
    "open_files": "the guest gets an error code: `EMFILE`, in components `insufficient-memory`",
    "sockets": "the guest gets an error code",
    "http_requests": "the guest gets an error code",
    "resolver_answers": "the guest gets the first addresses",
}
"""How a call ends that meets a limit: the error, or what the guest gets where the call goes on."""


def limits() -> str:
    """Return the table of limits: keyword, option, default, range and ending."""
    return table(("keyword", "option", "default", "range", "ends with", "exit"), map(_limit, LIMIT_ROWS))


def _limit(row: LimitRow) -> Sequence[str]:
    name, least, most = row.name, row.low, row.high
    default: float | None = getattr(Limits(), name)
    ending = ENDINGS[name]
    how, code = (ending, "its own") if isinstance(ending, str) else (f"`{ending.kind}`", str(ending.exit_code))
    given = "none" if default is None else format_limit(name, default)
    bounds = f"from {format_limit(name, least)}" + (f" to {format_limit(name, most)}" if most < 2**62 else "")
    return f"`{name}`", f"`{flag_of(name)}`", given, bounds, how, code


def limit_meanings() -> str:
    """Return the table of what each limit counts; the room that enforces it stands in the source alone."""
    texts = attribute_docs(Limits)
    meanings = {name: re.sub(r"\s\((?:engine|host|wasm|component)\b[^)]*\)", "", texts[name]) for name in LIMIT_NAMES}
    return table(("keyword", "counts"), ((f"`{name}`", text) for name, text in meanings.items()))


# -- exits and errors -----------------------------------------------------------------------------------------


def _classes() -> list[type[errors.AegisError]]:
    found = [getattr(errors, name) for name in errors.__all__]
    return [each for each in found if isinstance(each, type) and issubclass(each, errors.AegisError)]


def exits() -> str:
    """Return the table of exit codes that errors have, each with its statuses and classes."""
    codes: dict[int, list[type[errors.AegisError]]] = {}
    for cls in _classes():
        if cls not in (errors.AegisError, errors.GuestError, errors.GuestExit):
            codes.setdefault(cls.exit_code, []).append(cls)
    rows = []
    for code in sorted(codes):
        kinds = ", ".join(f"`{kind}`" for kind in dict.fromkeys(cls.kind for cls in codes[code]))
        rows.append((str(code), kinds, ", ".join(f"`{cls.__name__}`" for cls in codes[code])))
    return table(("exit code", "status", "errors"), rows)


def failures() -> str:
    """Return the table of exception classes: status, blame, exit code and meaning."""
    rows = [
        (f"`{cls.__name__}`", f"`{cls.kind}`", cls.blame, str(cls.exit_code), first_sentence(cls)) for cls in _classes()
    ]
    return table(("class", "status", "blame", "exit code", "meaning"), rows)


# -- events -----------------------------------------------------------------------------------------------


def events() -> str:
    """Return the table of events: kind, class, own fields and meaning."""
    common = {field.name for field in fields(Event)}
    rows = []
    for kind, cls in EVENTS.items():
        own = [f"`{field.name}: {field.type}`" for field in fields(cls) if field.name not in common]
        text = plain(inspect.getdoc(cls)).replace("\n\n", " ")
        rows.append((f"`{kind}`", f"`{cls.__name__}`", ", ".join(own), text))
    return table(("kind", "class", "fields", "meaning"), rows)


# -- proposals ----------------------------------------------------------------------------------------------


def proposals() -> str:
    """Return the table of WebAssembly proposals: state, where guests that use one may run, and the reason."""
    rows = ((f"`{row.name}`", row.state, row.place, row.reason) for row in PROPOSALS)
    return table(("proposal", "in Aegis", "guests run", "why"), rows)


# -- the policy file ----------------------------------------------------------------------------------------


def keys() -> str:
    """Return the table of the policy file's keys, table by table; those of limits are the limits' own table."""
    rows = []
    for name, known in all_keys().items():
        place = f'`[imports."{"INTERFACE"}"]`' if name == "imports" else f"`[{name}]`" if name else "top level"
        if name == "capabilities.filesystem.paths":
            place = "each of `paths`"
        for key, described_as in known.items():
            if name != "limits" or key not in LIMIT_NAMES:
                rows.append((place, f"`{key}`", described_as.form, described_as.meaning))
        if name == "limits":
            rows.append((place, "each limit", "quantity or `none`", "The limits, by keyword; `none` lifts one."))
    return table(("table", "key", "value", "meaning"), rows)


def layers() -> str:
    """Return the layers of a worker's confinement, in the order of application."""
    return ", ".join(f"`{name}`" for name in LAYERS) + "\n"


# -- the command line -----------------------------------------------------------------------------------------


def commands() -> str:
    """Return a section for each command: its usage, its text, and its options that are not limits."""
    context = click.Context(group, info_name="aegis")
    parts = ["## aegis\n", _command("aegis", group, context)]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        within = click.Context(command, parent=context, info_name=name)
        parts += [f"## aegis {name}\n", _command(f"aegis {name}", command, within)]
    return "\n".join(parts)


def _command(name: str, command: click.Command, context: click.Context) -> str:
    usage = " ".join(command.collect_usage_pieces(context))
    records = [param.get_help_record(context) for param in command.get_params(context)]
    rows = [(_coded(record[0]), record[1] or "–") for record in records if record is not None]
    chosen = [row for row in rows if row[0].split("`")[1] not in _LIMIT_FLAGS]
    text = inspect.cleandoc(command.help or "")
    if len(chosen) < len(rows):
        text += "\n\nEvery [limit](limits.md) is an option too: `--timeout 10s`, or `--timeout none` to lift it."
    return f"```text\n{name} {usage}\n```\n\n{text}\n\n{table(('option', 'meaning'), chosen)}"


_LIMIT_FLAGS = {flag_of(name) for name in LIMIT_NAMES}


def _coded(names: str) -> str:
    """Return an option's names and its value as code: ``-e, --function NAME``."""
    *before, last = names.split(", ")
    return ", ".join(f"`{name}`" for name in (*before, last))


# -- the names ----------------------------------------------------------------------------------------------


def names() -> str:
    """Return the table of public names, each with the first sentence of its docstring."""
    public = sorted(name for name in aegis.__all__ if not name.startswith("__"))
    return table(("name", "meaning"), ((f"`aegis.{name}`", first_sentence(getattr(aegis, name))) for name in public))


def json_schema() -> str:
    """Return the schema of the command's documents."""
    return f"```text\n{(ROOT / 'aegis' / 'cli' / 'documents.schema.json').read_text('utf-8')}```\n"


TABLES: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "events": events,
    "exits": exits,
    "failures": failures,
    "json-schema": json_schema,
    "keys": keys,
    "layers": layers,
    "limit-meanings": limit_meanings,
    "limits": limits,
    "names": names,
    "proposals": proposals,
}
"""The tables by the names that pages call them."""


def filled(text: str) -> str:
    """Return the text of a page with each of its tables made from the code."""
    return _TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def pages() -> list[Path]:
    """Return the pages that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def stale() -> list[Path]:
    """Return the pages of the checkout with a table that is not the code's."""
    return [path for path in pages() if filled(path.read_text("utf-8")) != path.read_text("utf-8")]


def main(words: Sequence[str]) -> int:
    """Write the tables anew, or check them; return the exit code."""
    if list(words) not in (["--write"], ["--check"]):
        print("usage: python -m scripts.reference --write | --check", file=sys.stderr)
        return 2
    found = stale()
    for path in found:
        if words[0] == "--write":
            path.write_text(filled(path.read_text("utf-8")), "utf-8")
        print(f"{path.relative_to(ROOT)}: {'written' if words[0] == '--write' else 'run scripts/docs --write'}")
    return 1 if found and words[0] == "--check" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
