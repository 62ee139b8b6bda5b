"""The corpus: a folder with the calls that showed each behaviour and the cases of findings, replayed next time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from aegis.errors import PolicyError
from aegis.fuzz.result import Result
from aegis.names import printable

__all__ = ["Corpus"]

_FILE = "corpus.jsonl"
_FINDINGS = "findings.jsonl"
_MOST = 20_000


class Corpus:
    """A folder. Its files are lines of JSON; a line that cannot be read is skipped and said."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.skipped = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise PolicyError(f"the corpus {self.folder} cannot be written: {error.strerror or error}") from None
        self.entries = [e for e in self._read(_FILE) if isinstance(e, list) and len(e) >= 2 and isinstance(e[1], dict)]
        self.findings = [e for e in self._read(_FINDINGS) if isinstance(e, dict) and "steps" in e and "answers" in e]

    def _read(self, name: str) -> list[Any]:
        try:
            lines = (self.folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PolicyError(f"the corpus {self.folder} cannot be read: {error.strerror or error}") from None
        found = []
        for line in lines[:_MOST]:
            try:
                found.append(json.loads(line))
            except ValueError:
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
            scratch.write_text("".join(f"{json.dumps(e, ensure_ascii=True)}\n" for e in entries), encoding="utf-8")
            scratch.replace(path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise PolicyError(f"{printable(str(path))} cannot be written: {error.strerror or error}") from None
