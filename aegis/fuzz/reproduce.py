"""A finding as something to run: a command line with its calls in WAVE, and a file for pytest."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from aegis.fuzz.portable import format_step
from aegis.fuzz.values.buffers import is_buffer
from aegis.limits import LIMIT_NAMES, Limits
from aegis.policy import Policy
from aegis.runtime import is_program
from aegis.wit.types import List
from aegis.wit.wave import parse_value

__all__ = ["command_of", "file_name", "pytest_file"]

_LONGEST = 100_000
"""Characters of a command line; systems take at least 128 KiB."""


def command_of(
    artifact: str, kind: str, finding: Mapping[str, Any], config: str = "", flags: Sequence[str] = ()
) -> str:
    """Return the command line that shows a finding.

    One call that traps, or runs into a limit, is ``aegis run``. What takes more calls, answers of imports or another
    oracle is ``aegis fuzz`` with its calls; one that is too long for a command line, with its file. ``config`` and
    ``flags`` are those under which it was found.
    """
    steps = finding["steps"]
    given = "".join(f" {shlex.quote(flag)}" for flag in flags)
    run = f"aegis{f' -c {shlex.quote(config)}' if config else ''} run{given}"
    fuzz = f"aegis fuzz{f' --policy {shlex.quote(config)}' if config else ''}{given} {shlex.quote(artifact)}"
    single = len(steps) == 1 and not any(finding["answers"]) and not any(map(is_buffer, steps[0][1]))
    if single and finding["oracle"] in ("no-trap", "no-limit"):
        function, texts = steps[0]
        if is_program(function):
            command = _program(run, artifact, texts)
        elif kind == "component":
            command = f"{run} --invoke {shlex.quote(format_step(steps[0]))} {shlex.quote(artifact)}"
        else:
            words = [run, "-e", shlex.quote(function), shlex.quote(artifact), *(["--"] if texts else [])]
            command = " ".join([*words, *map(shlex.quote, texts)])
    else:
        words = [f"{fuzz} --oracle {shlex.quote(finding['oracle'])}"]
        words += [f"--call {shlex.quote(format_step(step))}" for step in steps]
        words += [f"--answers {','.join(map(str, finding['answers']))}"] if any(finding["answers"]) else []
        words += ["--hostile-host"] if finding.get("hostile") else []
        words += ["--no-buffers"] if finding.get("numbers") else []
        command = " ".join(words)
    if len(command) > _LONGEST:
        return f"{fuzz} --replay {file_name(finding)}.json  # written by --out DIR"
    return command


def _program(run: str, artifact: str, texts: Sequence[str]) -> str:
    words = parse_value(texts[0], List("string"))
    stdin = bytes(parse_value(texts[1], List("u8")))
    shown = "".join(chr(b) if chr(b).isalnum() or b == 32 else f"\\{b:03o}" for b in stdin)
    given = f"printf {shlex.quote(shown)} | " if stdin else ""
    command = f"{given}{run} {'--stdin inherit ' if stdin else ''}{shlex.quote(artifact)}"
    return " ".join([command, *(["--", *map(shlex.quote, words)] if words else [])])


def file_name(finding: Mapping[str, Any]) -> str:
    """Return the name of a finding's files, without suffix: what it is of, and the start of its signature's digest."""
    from hashlib import sha256

    steps = finding["steps"]
    function = steps[-1][0] if steps else "start"
    words = re.sub(r"[^a-z0-9]+", "_", f"{finding['oracle']} {function}".lower()).strip("_")[:60]
    return f"{words}_{sha256(finding['signature'].encode()).hexdigest()[:8]}"


_TEST = '''"""Found by aegis fuzz: {text}"""

{imports}from aegis.fuzz import replay

FINDING = {finding}


def test_{name}() -> None:
    found = replay({artifact!r}, FINDING{policy})
    assert found is None, found
'''


def pytest_file(artifact: str, finding: Mapping[str, Any], policy: Policy | None = None) -> str:
    """Return a file for pytest that fails as long as the oracle objects to the finding's case, under ``policy``."""
    names, keywords = _keywords(policy or Policy())
    kept = {key: finding[key] for key in ("oracle", "signature", "steps", "answers")}
    kept |= {name: 1 for name in ("hostile", "numbers") if finding.get(name)}
    text = str(finding["text"]).replace("\\", "\\\\").replace('"""', "'''")
    return _TEST.format(
        text=text, finding=json.dumps(kept, indent=4, ensure_ascii=True), name=file_name(finding), artifact=artifact,
        policy="".join(f", {one}" for one in keywords),
        imports=f"from aegis import {', '.join(names)}\n" if names else "",
    )  # fmt: skip


def _keywords(policy: Policy) -> tuple[list[str], list[str]]:
    """Return what of a policy is not as usual, as keywords of Python, and the names that they need.

    Standard streams are left out: a campaign gives and captures them itself.
    """
    usual, keywords = Policy(), []
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
    names = sorted(set(re.findall(r"\b([A-Z]\w+)\(", " ".join(keywords))))
    return names, keywords
