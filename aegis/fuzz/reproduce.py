"""A finding as something to run: a command line with its calls in WAVE, and a file for pytest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from aegis.fuzz.plan import with_fuel
from aegis.fuzz.portable import format_step
from aegis.fuzz.values.buffers import is_buffer
from aegis.limits import LIMIT_NAMES, Limits
from aegis.policy import Policy
from aegis.runtime import is_program
from aegis.text import literal, shell_word
from aegis.wit.types import List
from aegis.wit.wave import parse_value

__all__ = ["command_of", "file_name", "pytest_file"]

_LONGEST = 100_000
"""Characters of a command line; systems take at least 128 KiB."""


def command_of(
    artifact: str, kind: str, finding: Mapping[str, Any], config: str = "", flags: Sequence[str] = ()
) -> str:
    """Return the command line that shows a finding.

    One call that traps, or runs into a limit, is ``aegis run``. More calls, another oracle, and an artifact whose
    imports only a campaign answers need ``aegis fuzz`` with the calls; what is too long for a command line, or has a
    name that none can hold, its file. ``config`` and ``flags`` are those under which it was found.
    """
    steps = finding["steps"]
    given = "".join(f" {shell_word(flag)}" for flag in flags)
    file = shell_word(artifact if artifact == "-" or not artifact.startswith("-") else f"./{artifact}")
    fuzz = f"aegis fuzz{f' --policy {shell_word(config)}' if config else ''}{given} {file}"
    answered = any(finding["answers"]) or bool(finding.get("answers_imports"))
    single = len(steps) == 1 and not answered and not any(map(is_buffer, steps[0][1]))
    try:
        if single and finding["oracle"] in ("no-trap", "no-limit"):
            run = f"aegis{f' -c {shell_word(config)}' if config else ''} run{given}"
            command = _run(run, file, kind, *steps[0])
        else:
            command = _fuzz(fuzz, finding)
    except ValueError:  # a NUL, in a name or an argument
        command = ""
    if not command or len(command) > _LONGEST:
        return f"{fuzz} --replay {file_name(finding)}.json  # written by --out DIR"
    return command


def _run(run: str, file: str, kind: str, function: str, texts: Sequence[str]) -> str:
    if is_program(function):
        return _program(run, file, texts)
    if kind == "component":
        return f"{run} --invoke {shell_word(format_step([function, texts]))} {file}"
    name = f"--function={shell_word(function)}" if function.startswith("-") else f"-e {shell_word(function)}"
    return " ".join([run, name, file, *(["--"] if texts else []), *map(shell_word, texts)])


def _fuzz(fuzz: str, finding: Mapping[str, Any]) -> str:
    words = [f"{fuzz} --oracle {shell_word(finding['oracle'])}"]
    words += [f"--call {shell_word(format_step(step))}" for step in finding["steps"]]
    words += [f"--answers {','.join(map(str, finding['answers']))}"] if any(finding["answers"]) else []
    words += ["--hostile-host"] if finding.get("hostile") else []
    words += ["--no-buffers"] if finding.get("numbers") else []
    return " ".join(words)


def _program(run: str, file: str, texts: Sequence[str]) -> str:
    words = parse_value(texts[0], List("string"))
    stdin = bytes(parse_value(texts[1], List("u8")))
    # A printf of any shell reads three octal digits; letters beyond ASCII would be written in the terminal's encoding.
    shown = "".join(chr(b) if (chr(b).isascii() and chr(b).isalnum()) or b == 32 else f"\\{b:03o}" for b in stdin)
    given = f"printf {shell_word(shown)} | " if stdin else ""
    command = f"{given}{run} {'--stdin inherit ' if stdin else ''}{file}"
    return " ".join([command, *(["--", *map(shell_word, words)] if words else [])])


def file_name(finding: Mapping[str, Any]) -> str:
    """Return the name of a finding's files, without suffix: what it is of, and the start of its signature's digest."""
    from hashlib import sha256

    steps = finding["steps"]
    function = steps[-1][0] if steps else "start"
    words = re.sub(r"[^a-z0-9]+", "_", f"{finding['oracle']} {function}".lower()).strip("_")[:60]
    return f"{words}_{sha256(finding['signature'].encode()).hexdigest()[:8]}"


_TEST = """{text}

{imports}from aegis.fuzz import replay

FINDING = {finding}


def test_{name}() -> None:
    found = replay({artifact!r}, FINDING{policy})
    assert found is None, found
"""


def pytest_file(artifact: str, finding: Mapping[str, Any], policy: Policy | None = None) -> str:
    """Return a file for pytest that fails as long as the oracle objects to the finding's case, under ``policy``."""
    names, keywords = _keywords(with_fuel(policy or Policy()))
    kept = {key: finding[key] for key in ("oracle", "signature", "steps", "answers")}
    kept |= {name: 1 for name in ("hostile", "numbers") if finding.get(name)}
    return _TEST.format(
        text=literal(f"Found by aegis fuzz: {finding['text']}"), finding=_python(kept), name=file_name(finding),
        artifact=artifact,
        policy="".join(f", {one}" for one in keywords),
        imports=f"from aegis import {', '.join(names)}\n" if names else "",
    )  # fmt: skip


def _python(value: Any, margin: str = "") -> str:
    """Return plain data as Python, its strings with everything escaped that a terminal or a parser could trip over."""
    inner = f"{margin}    "
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, dict):
        lines = [f"{inner}{literal(key)}: {_python(item, inner)},\n" for key, item in value.items()]
        return f"{{\n{''.join(lines)}{margin}}}"
    if isinstance(value, (list, tuple)) and value:
        return f"[\n{''.join(f'{inner}{_python(item, inner)},{chr(10)}' for item in value)}{margin}]"
    return repr(list(value) if isinstance(value, tuple) else value)


_LITERAL = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


def _keywords(policy: Policy) -> tuple[list[str], list[str]]:
    """Return what of a policy is not as usual, as keywords of Python, and the names that they need.

    Standard streams are left out: a campaign gives and captures them itself.
    """
    usual, keywords = with_fuel(Policy()), []
    for field in fields(policy):
        value, other = getattr(policy, field.name), getattr(usual, field.name)
        if value == other or field.name == "stdio":
            continue
        if isinstance(value, Limits):
            keywords += [
                f"{name}={getattr(value, name)!r}"
                for name in LIMIT_NAMES
                if getattr(value, name) != getattr(other, name)
            ]
        elif field.name == "network":
            rules = {name: [str(rule) for rule in getattr(value, name)] for name in ("allow", "deny", "listen")}
            text = ", ".join(f"{name}={patterns!r}" for name, patterns in rules.items() if patterns)
            keywords.append(f"network=NetworkCapability({text})")
        else:
            keywords.append(f"{field.name}={value!r}")
    names = sorted(set(re.findall(r"\b([A-Z]\w+)\(", _LITERAL.sub("", " ".join(keywords)))))
    return names, keywords
