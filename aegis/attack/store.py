"""Save findings as files (the input, a JSON description, a pytest file) and replay them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from aegis.attack.inputs import AttackInput
from aegis.attack.suspects import kills_process
from aegis.attack.triage import Fault
from aegis.attack.worker import Attack, attack_state, input_of
from aegis.errors import PolicyError
from aegis.fuzz.regular_files import read_regular, write_regular
from aegis.limits import MIB
from aegis.observe.encode import dump
from aegis.text import literal, printable, shell_word

__all__ = ["command_of", "file_name", "replay", "save"]

_MAX_FILE_BYTES = 64 * MIB
_TEST = """{text}

from pathlib import Path

from aegis.attack.store import replay


def test_{name}() -> None:
    found = replay(Path(__file__).with_name("{file}.wasm"))
    assert not found, found
"""


def file_name(finding: Mapping[str, Any]) -> str:
    """Return the stem of a finding's files."""
    words = re.sub(r"[^a-z0-9]+", "_", f"{finding['kind']} {finding['phase']}".lower()).strip("_")
    return f"{words}_{sha256(finding['signature'].encode()).hexdigest()[:8]}"


def command_of(finding: Mapping[str, Any], folder: str | None) -> str:
    """Return the command line that replays a finding from ``folder``; without one, a command that finds it again."""
    if folder is None:
        return f"aegis fuzz --host --out DIR --seed {finding['seed']} --source {finding['source']}  # saves the input"
    return f"aegis fuzz --host --replay {shell_word(str(Path(folder) / file_name(finding)))}.wasm"


def save(folder: Path, finding: Mapping[str, Any]) -> None:
    """Write the input of a finding, its JSON description and its pytest file. Raise ``PolicyError`` if that fails."""
    name = file_name(finding)
    known = {key: value for key, value in finding.items() if key != "data"}
    text = literal(f"Found by aegis fuzz --host: {printable(finding['text'], 300)}")
    try:
        write_regular(folder / f"{name}.wasm", input_of(finding).data)
        write_regular(folder / f"{name}.json", dump(known, indent=2) + "\n")
        write_regular(folder / f"test_{name}.py", _TEST.format(text=text, name=name, file=name))
    except OSError as error:
        raise PolicyError(f"{printable(str(folder))} cannot be written: {error.strerror or error}") from None


def replay(path: str | Path, attack: Attack | None = None) -> list[Fault]:
    """Run a saved input again and return the faults it shows now; an empty list if they are fixed.

    Any file can be run. The JSON description beside it, if present, selects the arguments and grants of the original
    run; an input that killed its process then runs in a separate process. Raise
    :class:`~aegis.errors.PolicyError` if a file cannot be read.
    """
    path, attack = Path(path), attack or Attack()
    try:
        data = read_regular(path, _MAX_FILE_BYTES)
        beside = path.with_suffix(".json")
        known = json.loads(read_regular(beside, _MAX_FILE_BYTES)) if beside != path and beside.exists() else {}
        fault = Fault.of(known) if known else None
        one = AttackInput(
            source=str(known.get("source", "file")), number=int(known.get("turn", 0)), data=data, label=path.name
        )
    except OSError as error:
        raise PolicyError(f"{printable(str(path))} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PolicyError(f"{printable(str(beside))} is not a finding of aegis fuzz --host") from None
    if fault is not None and fault.kind in ("died", "hung"):
        return [fault] if kills_process(attack, one, fault.signature) else []
    return attack_state(attack).run(one)[1]
