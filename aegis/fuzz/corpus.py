"""The corpus: a folder with the calls that showed each behaviour and the cases of findings, replayed next time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from aegis.errors import PolicyError
from aegis.fuzz.files import read_regular, write_regular
from aegis.fuzz.result import Result
from aegis.text import printable

__all__ = ["Corpus"]

_FILE = "corpus.jsonl"
_FINDINGS = "findings.jsonl"
_MOST = 20_000
_MOST_BYTES = 1 << 30


class Corpus:
    """A folder. Its files are lines of JSON; a line that cannot be read is skipped and said."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.skipped = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / ".writable"
            write_regular(probe, b"")
            probe.unlink()
        except OSError as error:
            raise PolicyError(
                f"the corpus {printable(str(self.folder))} cannot be written: {error.strerror or error}"
            ) from None
        self.entries = [e for e in self._read(_FILE) if _is_entry(e)]
        self.findings = [e for e in self._read(_FINDINGS) if _is_finding(e)]

    def _read(self, name: str) -> list[Any]:
        try:
            lines = read_regular(self.folder / name, _MOST_BYTES).decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PolicyError(
                f"the corpus {printable(str(self.folder))} cannot be read: {error.strerror or error}"
            ) from None
        found = []
        for line in lines[:_MOST]:
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError):
                self.skipped += 1
        return found

    def told(self) -> list[Any]:
        """Return what there is to replay: the findings' cases, then the calls of the behaviours."""
        return [*({"steps": f["steps"], "answers": f["answers"]} for f in self.findings), *(e[1] for e in self.entries)]

    def save(self, result: Result) -> None:
        """Write what a campaign knows now. Of each behaviour the smallest call is kept; nothing is lost half-way."""
        best: dict[str, list[Any]] = {}
        for told in (*self.entries, *result.behaviours.values()):
            kept = best.get(told[0])
            if kept is None or (told[2:3] or [0]) < (kept[2:3] or [0]):
                best[told[0]] = told
        findings = {f["signature"]: f for f in (*self.findings, *result.findings.values())}
        self._write(_FINDINGS, list(findings.values()))
        self._write(_FILE, list(best.values()))

    def _write(self, name: str, entries: list[Any]) -> None:
        path = self.folder / name
        scratch = path.with_suffix(f".{os.getpid()}")
        try:
            write_regular(scratch, "".join(f"{json.dumps(e, ensure_ascii=True)}\n" for e in entries))
            scratch.replace(path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise PolicyError(f"{printable(str(path))} cannot be written: {error.strerror or error}") from None


def _is_entry(told: Any) -> bool:
    """Tell whether a line is a behaviour: its name, a case, and the case's size."""
    return (
        isinstance(told, list) and len(told) >= 2 and isinstance(told[0], str) and isinstance(told[1], dict)
        and all(isinstance(size, (int, float)) for size in told[2:3])
    )  # fmt: skip


def _is_finding(told: Any) -> bool:
    return isinstance(told, dict) and isinstance(told.get("signature"), str) and {"steps", "answers"} <= told.keys()
