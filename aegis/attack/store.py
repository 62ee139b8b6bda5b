"""Findings as files: the input, what is known of it, and a test for pytest; and how one is run again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from aegis.attack.bisect import deadly
from aegis.attack.inputs import Input
from aegis.attack.triage import Fault
from aegis.attack.work import Attack, input_of, workshop
from aegis.errors import PolicyError
from aegis.fuzz.files import read_regular, write_regular
from aegis.limits import MIB
from aegis.observe.encode import dump
from aegis.text import literal, printable, shell_word

__all__ = ["command_of", "file_name", "folder_of", "replay", "save"]

_LARGEST = 64 * MIB
_TEST = """{text}

from pathlib import Path

from aegis.attack.store import replay


def test_{name}() -> None:
    found = replay(Path(__file__).with_name("{file}.wasm"))
    assert not found, found
"""


def file_name(finding: Mapping[str, Any]) -> str:
    """Return the name of a finding's files, without suffix."""
    words = re.sub(r"[^a-z0-9]+", "_", f"{finding['kind']} {finding['phase']}".lower()).strip("_")
    return f"{words}_{sha256(finding['signature'].encode()).hexdigest()[:8]}"


def command_of(finding: Mapping[str, Any], folder: str | None) -> str:
    """Return the command line that shows a finding; without a folder, that which makes it again."""
    if folder is None:
        return f"aegis fuzz --host --out DIR --seed {finding['seed']} --source {finding['source']}  # saves its input"
    return f"aegis fuzz --host --replay {shell_word(str(Path(folder) / file_name(finding)))}.wasm"


def folder_of(path: str) -> Path:
    """Return a folder that findings can be written to, made if it is not there; raise ``PolicyError``."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        write_regular(probe, b"")
        probe.unlink()
    except OSError as error:
        raise PolicyError(f"{printable(path)} cannot be written: {error.strerror or error}") from None
    return folder


def save(folder: Path, finding: Mapping[str, Any]) -> None:
    """Write a finding's input, what is known of it, and its test. Raise ``PolicyError`` where that fails."""
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
    """Run a saved input again and return the faults that it shows now: none for one that is mended.

    Any file will do. With the JSON beside it, it is called and granted as when it was found, and what killed the
    process then is run in a process of its own. Raise :class:`~aegis.errors.PolicyError` for what cannot be read.
    """
    path, attack = Path(path), attack or Attack()
    try:
        data = read_regular(path, _LARGEST)
        beside = path.with_suffix(".json")
        known = json.loads(read_regular(beside, _LARGEST)) if beside != path and beside.exists() else {}
        fault = Fault.of(known) if known else None
        one = Input(
            source=str(known.get("source", "file")), number=int(known.get("turn", 0)), data=data, label=path.name
        )
    except OSError as error:
        raise PolicyError(f"{printable(str(path))} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PolicyError(f"{printable(str(beside))} tells no finding of aegis fuzz --host") from None
    if fault is not None and fault.kind in ("died", "hung"):
        return [fault] if deadly(attack, one, fault.signature) else []
    return workshop(attack).run(one)[1]
