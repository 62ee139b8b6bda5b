"""The command ``aegis policy``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from aegis.cli.click_options import FileCommand
from aegis.cli.command_line import FORMATS, POLICY_FORMAT
from aegis.cli.options import policy_files, refuse_second_reader
from aegis.cli.output import Output
from aegis.errors import PolicyError
from aegis.policy.file_writer import dump_policy
from aegis.policy.origins import PolicyStatement, statements_of
from aegis.policy.toml_writer import toml_string
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.policy.file import PolicyFiles
    from aegis.policy.parts import PolicyPart

__all__ = ["command"]

_TITLES = {
    "grant": "grants", "denial": "denials", "import": "imports", "proposal": "proposals", "isolation": "isolation",
    "limit": "limits",
}  # fmt: skip


class PolicyCommand(FileCommand):
    """The command ``policy``, which can also show a policy as a policy file."""

    forms = (*FORMATS, POLICY_FORMAT)


@click.command(cls=PolicyCommand, reads_policy=True)
@click.argument("action", type=click.Choice(["show", "check"]), metavar="show|check")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.pass_obj
def command(output: Output, /, action: str, files: tuple[str, ...]) -> int:
    """Show the meaning of policy files, or check them. FILE is a policy file, or - for standard input.

    show merges the files of -c and then each FILE, with the files that they include, and prints grants, denials and
    limits with the place of each; with -f toml, as one policy file that states the same. check prints all mistakes of
    each file, and contradictions between them, and exits with 0 if there are none. It does not look whether the paths
    and the modules of providers that the files name exist on this machine: run does.
    """
    names = (*output.config, *files)
    refuse_second_reader(output.config, files)
    if names.count("-") > 1:
        raise click.UsageError("- is given twice, and standard input can be read once: name a file")
    if action == "check" and output.form == POLICY_FORMAT:
        raise click.UsageError(f"{POLICY_FORMAT} is a format of show: check has {', '.join(FORMATS)}")
    if action == "show":
        _show(output, names)
        return 0
    if not names:
        raise click.UsageError("check needs a policy file: name one, or - for standard input")
    return _check(output, output.config, files)


def _show(output: Output, names: Sequence[str]) -> None:
    files = policy_files(names)
    if output.form == POLICY_FORMAT:
        output.result({}, "\n\n".join(_file_text(files)))
        return
    found = list(statements_of(files.parts, files.policy()))
    document: dict[str, Any] = {"files": [part.text.source for part in files.parts]}
    for kind, title in _TITLES.items():
        document[title] = [{"text": s.text, "file": s.source, "line": s.line} for s in found if s.kind == kind]
    output.result(document, "\n".join(_lines(found)))


def _file_text(files: PolicyFiles) -> Iterable[str]:
    """Yield a comment with the origin of a policy file, and then its text."""
    if files.parts:
        yield f"# Merged from {', '.join(toml_string(part.text.source) for part in files.parts)}."
    yield dump_policy(files.policy()).rstrip("\n") or "# Nothing is granted, and every limit has its default."


def _lines(found: Sequence[PolicyStatement]) -> Iterable[str]:
    """Yield a section for each kind of statement, in columns: the statement and its place."""
    width = min(60, max((len(printable(s.text, 400)) for s in found), default=0))
    for kind, title in _TITLES.items():
        chosen = [s for s in found if s.kind == kind]
        if chosen or kind in ("grant", "limit"):
            yield f"{title}:"
        for s in chosen:
            yield f"  {printable(s.text, 400):<{width}}  {_place(s.source, s.line)}"
        if not chosen and kind == "grant":
            yield "  none"
    yield "  the others have their defaults"


def _place(source: str, line: int | None) -> str:
    return printable(source, 400) + ("" if line is None else f":{line}")


def _check(output: Output, config: Sequence[str], files: Sequence[str]) -> int:
    """Check the files of ``-c`` together, each other file by itself, and then all as they would merge.

    Return the exit code.
    """
    groups: list[Sequence[str]] = [config] if config else []
    groups += ((name,) for name in files)
    checked = [_checked(group) for group in groups]
    results = [_result(group, errors) for group, (_, errors) in zip(groups, checked, strict=True)]
    if len(groups) > 1 and not any(errors for _, errors in checked):
        errors = _contradictions([part for parts, _ in checked for part in parts])
        if errors:
            results.append(_result((*config, *files), errors))
    code = PolicyError.exit_code if any(result["errors"] for result in results) else 0
    status = PolicyError.kind if code else "ok"
    valid = [_verdict(result["files"]) for result in results if not result["errors"]]
    output.result({"status": status, "exit_code": code, "policies": results}, "\n".join(valid))
    if not output.json:
        for error in (error for result in results for error in result["errors"]):
            output.complain(error["message"])
    return code


def _verdict(names: Sequence[str]) -> str:
    return f"{', '.join(printable(name, 400) for name in names)}: valid"


def _checked(names: Sequence[str]) -> tuple[Sequence[PolicyPart], Sequence[PolicyError]]:
    """Return the parts of one policy, which may have several files, and its mistakes."""
    try:
        files = policy_files(names, collect=True)
        files.policy()
    except PolicyError as error:  # the name itself is no file
        return (), [error]
    return files.parts, files.errors


def _contradictions(parts: Iterable[PolicyPart]) -> Sequence[PolicyError]:
    """Return the contradictions between the valid files of several policies."""
    from aegis.policy.file import PolicyFiles

    files = PolicyFiles(collect=True)
    files.parts += parts
    files.policy()
    return files.errors


def _result(names: Sequence[str], errors: Sequence[PolicyError]) -> dict[str, Any]:
    return {
        "files": list(names),
        "valid": not errors,
        "errors": [{"file": e.source, "line": e.line, "message": str(e)} for e in errors],
    }
