"""Reproducers for a finding: a command line with the calls in WAVE, a pytest file, and the replay of its test case."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from aegis.engine.compile.artifact import read_file
from aegis.fuzz.case import Case, HandleRef
from aegis.fuzz.oracles import Oracle
from aegis.fuzz.plan import CampaignPlan, with_fuel
from aegis.fuzz.portable import format_step, parse_step, read_case
from aegis.fuzz.target import EVERY, Target
from aegis.fuzz.values.buffers import is_buffer
from aegis.fuzz.worker import WorkerState
from aegis.limits import LIMIT_NAMES, Limits
from aegis.policy import Policy
from aegis.sandbox.programs import is_program
from aegis.text import literal, printable, shell_word
from aegis.wit.types import List
from aegis.wit.wave_read import parse_value

__all__ = ["command_of", "file_name", "needs_file", "pytest_file", "replay", "replay_finding", "run_calls"]

_MAX_COMMAND_CHARACTERS = 2000
"""Longest command line, in characters: some lines of a terminal. A longer one would hide the findings around it."""


def command_of(
    artifact: str, kind: str, finding: Mapping[str, Any], config: Sequence[str] = (), flags: Sequence[str] = (),
    folder: str = "",
) -> str:  # fmt: skip
    """Return the command line that reproduces a finding.

    A single call that traps or exceeds a limit is reproduced by ``aegis run``. A sequence of calls, any other oracle,
    or an artifact whose imports need stubs is reproduced by ``aegis fuzz --call``. A command that would be too long, or
    that contains a NUL, becomes ``aegis fuzz --replay FILE`` with a file in ``folder``, see :func:`needs_file`.
    ``config`` and ``flags`` are the policy files and the command-line flags of the campaign.
    """
    steps = finding["steps"]
    given = "".join(f" {shell_word(flag)}" for flag in flags)
    file = shell_word(artifact if artifact == "-" or not artifact.startswith("-") else f"./{artifact}")
    policies = "".join(f" -c {shell_word(name)}" for name in config)
    fuzz = f"aegis fuzz{policies}{given} {file}"
    stubbed = bool(finding.get("answers_imports"))
    answered = any(finding["answers"]) or (stubbed and bool(finding.get("stubs_called", True)))
    single = len(steps) == 1 and not answered and not any(map(is_buffer, steps[0][1]))
    try:
        refused = finding.get("status") == "memory-exceeded"  # `aegis run` does not count the growth of each memory
        if single and finding["oracle"] in ("no-trap", "no-limit") and not refused:
            run = f"aegis{policies} run{given}{' --trap-missing' if stubbed else ''}"
            command = _run(run, file, kind, *steps[0])
        else:
            command = _fuzz(fuzz, finding)
    except ValueError:  # a name or an argument contains a NUL, which no command line can hold
        command = ""
    if not command or len(command) > _MAX_COMMAND_CHARACTERS:
        return f"{fuzz} --replay {shell_word(os.path.join(folder, f'{file_name(finding)}.json'))}"
    return command


def needs_file(finding: Mapping[str, Any]) -> bool:
    """Return whether the command of a finding, as :func:`command_of` made it, reads the finding from its file."""
    return f"{file_name(finding)}.json" in finding["command"]


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
    words += [f"--allocator {shell_word(finding['allocator'])}"] if finding.get("allocator") else []
    words += [f"--signature {shell_word(text)}" for text in finding.get("signatures", ())]
    return " ".join(words)


def _program(run: str, file: str, texts: Sequence[str]) -> str:
    words = parse_value(texts[0], List("string"))
    stdin = bytes(parse_value(texts[1], List("u8")))
    # Every shell's printf understands three octal digits. A non-ASCII character would be encoded by the terminal.
    shown = "".join(chr(b) if (chr(b).isascii() and chr(b).isalnum()) or b == 32 else f"\\{b:03o}" for b in stdin)
    given = f"printf {shell_word(shown)} | " if stdin else ""
    command = f"{given}{run} {'--stdin inherit ' if stdin else ''}{file}"
    return " ".join([command, *(["--", *map(shell_word, words)] if words else [])])


def file_name(finding: Mapping[str, Any]) -> str:
    """Return the stem of a finding's files: oracle, function, and a digest of the signature."""
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
    """Return a pytest file that fails until the finding's test case passes its oracle under ``policy``."""
    names, keywords = _keywords(with_fuel(policy or Policy()))
    kept = {key: finding[key] for key in ("oracle", "signature", "steps", "answers")}
    kept |= {name: 1 for name in ("hostile", "numbers") if finding.get(name)}
    kept |= {name: finding[name] for name in ("allocator", "signatures") if finding.get(name)}
    return _TEST.format(
        text=literal(f"Found by aegis fuzz: {finding['text']}"), finding=_python(kept), name=file_name(finding),
        artifact=artifact,
        policy="".join(f", {one}" for one in keywords),
        imports=f"from aegis import {', '.join(names)}\n" if names else "",
    )  # fmt: skip


def _python(value: Any, margin: str = "") -> str:
    """Return plain data as a Python expression, its strings escaped so that they are safe in a terminal."""
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
    """Return the names to import, and keyword arguments that turn the default policy into ``policy``.

    The standard streams are omitted, because a campaign sets and captures them itself, and so are the names of keys.
    """
    usual, keywords = with_fuel(Policy()), []
    for field in fields(policy):
        value, other = getattr(policy, field.name), getattr(usual, field.name)
        if value == other or field.name in ("stdio", "named"):
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


# -- replay ----------------------------------------------------------------------------------------------


def replay_finding(plan: CampaignPlan, finding: Mapping[str, Any]) -> str | None:
    """Run a finding's test case again. Return the oracle's message, or ``None`` if the oracle now accepts it."""
    hostile = bool(finding.get("hostile", plan.hostile))
    buffers = not finding.get("numbers", not plan.buffers)
    oracles = (str(finding["oracle"]),)
    allocator = str(finding.get("allocator", plan.allocator))
    signatures = tuple(map(str, finding.get("signatures", plan.signatures)))
    chosen = replace(plan, oracles=oracles, hostile=hostile, buffers=buffers, functions=EVERY, skip=(), examples=())
    state = WorkerState(replace(chosen, allocator=allocator, signatures=signatures))
    return _judged(state.target, state.oracles[0], read_case(state.target, finding))


def run_calls(plan: CampaignPlan, calls: Sequence[str], answers: Sequence[int]) -> list[tuple[str, str]]:
    """Run one test case, given as text, under the plan's oracles. Return the name and message of each that rejects it.

    Raise ``ValueError`` for a call that cannot be parsed, or that uses a handle no earlier call returned.
    """
    state = WorkerState(replace(plan, functions=EVERY, skip=(), examples=()))
    case = Case(tuple(parse_step(state.target, text) for text in calls), tuple(answers))
    for number, step in enumerate(case.steps):
        if any(isinstance(a, HandleRef) and not 0 <= a.step < number for a in step.arguments):
            raise ValueError(
                f"call {number} uses a handle that no earlier call returned: {printable(calls[number])}; "
                "#N is the result of call N, counted from 0"
            )
    found = [(oracle.name, _judged(state.target, oracle, case)) for oracle in state.oracles]
    return [(name, text) for name, text in found if text is not None]


def _judged(target: Target, oracle: Oracle, case: Case) -> str | None:
    found = oracle.thorough().judge(target, target.run(case))
    return None if found is None else found.text


def replay(artifact: str | os.PathLike[str], finding: Mapping[str, Any], **policy: Any) -> str | None:
    """Replay a finding of ``aegis fuzz`` on the file ``artifact``. Keyword arguments are those of :class:`aegis.Aegis`.

    Return the oracle's message, or ``None`` if the oracle now accepts the test case. Without ``fuel``, the limit is 1e9
    as in a campaign, so that the finding is reproducible.
    """
    path = Path(artifact)
    granted = Policy.from_keywords(**policy)
    return replay_finding(CampaignPlan(data=read_file(path, granted.limits), name=str(path), policy=granted), finding)
