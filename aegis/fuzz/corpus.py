"""The corpus: a directory with one test case per behaviour and per finding, replayed by the next campaign."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from aegis.errors import PolicyError
from aegis.fuzz.plan import CampaignResult
from aegis.fuzz.regular_files import read_regular, write_regular
from aegis.text import printable

__all__ = ["Corpus", "is_behaviour", "is_finding"]

_BEHAVIOURS_FILE = "corpus.jsonl"
_FINDINGS_FILE = "findings.jsonl"
_MAX_LINES = 20_000
_MAX_FILE_BYTES = 1 << 30


class Corpus:
    """A corpus directory. Its files have one JSON document per line; ``skipped`` counts lines that are not JSON.

    Raise :class:`~aegis.errors.PolicyError` if the directory cannot be created, read or written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.skipped = 0
        self._kept: list[Any] | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / ".writable"
            write_regular(probe, b"")
            probe.unlink()
        except OSError as error:
            raise PolicyError(
                f"corpus directory {printable(str(self.folder))} cannot be written: {error.strerror or error}"
            ) from None
        self.entries = [e for e in self._read(_BEHAVIOURS_FILE) if is_behaviour(e)]
        self.findings = [e for e in self._read(_FINDINGS_FILE) if is_finding(e)]

    def _read(self, name: str) -> list[Any]:
        try:
            lines = read_regular(self.folder / name, _MAX_FILE_BYTES).decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PolicyError(
                f"corpus directory {printable(str(self.folder))} cannot be read: {error.strerror or error}"
            ) from None
        found = []
        for line in lines[:_MAX_LINES]:
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError):
                self.skipped += 1
        return found

    def cases(self) -> list[Any]:
        """Return the test cases to replay, as plain data: those of findings, then those of behaviours."""
        return [*({"steps": f["steps"], "answers": f["answers"]} for f in self.findings), *(e[1] for e in self.entries)]

    def save(self, result: CampaignResult) -> None:
        """Merge the results of a campaign into the corpus. For each behaviour the smallest test case is kept.

        Each file is replaced atomically, so a failed write leaves the previous file intact.
        """
        findings = {f["signature"]: f for f in (*self.findings, *result.findings.values())}
        self._write(_FINDINGS_FILE, list(findings.values()))
        self._write(_BEHAVIOURS_FILE, self.merged(result) if self._kept is None else self._kept)

    def merged(self, result: CampaignResult) -> list[Any]:
        """Return the entries of the corpus and of a campaign, for each behaviour the smallest."""
        best: dict[str, list[Any]] = {}
        for entry in (*self.entries, *result.behaviours.values()):
            kept = best.get(entry[0])
            if kept is None or (entry[2:3] or [0]) < (kept[2:3] or [0]):
                best[entry[0]] = entry
        return list(best.values())

    def keep(self, entries: list[Any]) -> None:
        """Save only these entries, in place of all."""
        self._kept = entries

    def _write(self, name: str, entries: list[Any]) -> None:
        path = self.folder / name
        scratch = path.with_suffix(f".{os.getpid()}")
        try:
            write_regular(scratch, "".join(f"{json.dumps(e, ensure_ascii=True)}\n" for e in entries))
            scratch.replace(path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise PolicyError(f"{printable(str(path))} cannot be written: {error.strerror or error}") from None


def is_behaviour(data: Any) -> bool:
    """Return whether a line describes a behaviour: its signature, a test case and the size of the arguments."""
    return (
        isinstance(data, list) and len(data) >= 2 and isinstance(data[0], str) and isinstance(data[1], dict)
        and all(isinstance(size, (int, float)) for size in data[2:3])
    )  # fmt: skip


def is_finding(data: Any) -> bool:
    """Return whether a line describes a finding that can be replayed."""
    return isinstance(data, dict) and isinstance(data.get("signature"), str) and {"steps", "answers"} <= data.keys()
