"""The state of a campaign in a file, so that a later process continues it.

A campaign that was continued finds the same as one that ran through, because its chunks are numbered on and start from
the same behaviours. The file is data: it has the options of the campaign for comparison, and none of them is obeyed.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from aegis.errors import PolicyError
from aegis.fuzz.corpus import is_behaviour, is_finding
from aegis.fuzz.plan import MAX_ARGUMENT_ITEMS, CampaignPlan, CampaignResult
from aegis.fuzz.regular_files import read_regular
from aegis.text import printable

__all__ = ["STATE_FILE", "SavedCampaign", "to_state"]

STATE_FILE = "campaign.json"
_FORMAT = 1
_MAX_STATE_BYTES = 1 << 30
_MAX_COVERAGE_BYTES = 1 << 28
_COMPARED = (
    "functions", "oracles", "hostile", "goal", "buffers", "config", "flags", "programs", "coverage", "dictionary",
    "examples", "max_size", "skip", "allocator", "signatures",
)  # fmt: skip
"""Options of the plan on which its results depend. The seed is taken from the file."""
_OPTIONS = {
    "functions": "--invoke", "oracles": "--oracle", "hostile": "--hostile-host", "goal": "--find",
    "buffers": "--no-buffers", "config": "--config", "programs": "--args", "coverage": "--coverage=off",
    "dictionary": "--dict", "examples": "--example", "max_size": "--max-size", "skip": "--skip",
    "allocator": "--allocator", "signatures": "--signature",
}  # fmt: skip
"""The options of the command line that set them; ``flags`` are such options themselves."""
_DEFAULTS = {"hostile": False, "buffers": True, "coverage": True, "max_size": MAX_ARGUMENT_ITEMS}


def to_state(result: CampaignResult) -> dict[str, Any]:
    """Return the state of a campaign as a JSON object."""
    plan = result.plan
    return {
        "format": _FORMAT,
        "artifact": plan.name,
        "digest": sha256(plan.data).hexdigest(),
        "seed": plan.seed,
        "options": _options(plan),
        "cases": result.cases,
        "seconds": result.seconds,
        "chunks": [number for number in result.chunks if number >= 0],
        "calls": result.calls,
        "errors": result.errors,
        "findings": list(result.findings.values()),
        "behaviours": list(result.behaviours.values()),
        "points": result.points,
        "line": result.line,
        "edges": result.edges,
        "coverage": b64encode(zlib.compress(result.coverage)).decode(),
        "words": [list(word) for word in result.words],
        "usual": list(result.usual),
    }


def _options(plan: CampaignPlan) -> dict[str, Any]:
    values = {name: getattr(plan, name) for name in _COMPARED}
    return {name: _listed(value) for name, value in values.items()}


def _listed(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


class SavedCampaign:
    """The campaign that ``aegis fuzz --out`` saved in a directory.

    Raise :class:`~aegis.errors.PolicyError` if the directory has none, or none that this version can read.
    """

    def __init__(self, folder: str) -> None:
        path = Path(folder) / STATE_FILE
        try:
            data = json.loads(read_regular(path, _MAX_STATE_BYTES))
            self._data = _checked(data)
        except OSError as error:
            raise PolicyError(
                f"{printable(str(path))} cannot be read: {error.strerror or error}: name the directory of --out"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise PolicyError(f"{printable(str(path))} is not the state of a campaign: start a new one") from None
        self.artifact: str = data["artifact"]
        self.seed: int = data["seed"]

    def result(self, plan: CampaignPlan) -> CampaignResult:
        """Return the results so far, for a campaign of ``plan``.

        Raise :class:`~aegis.errors.PolicyError` if the artifact or an option differs, because the chunks would too.
        """
        data = self._data
        if data["digest"] != sha256(plan.data).hexdigest():
            raise PolicyError(
                f"{printable(plan.name)} has changed since the campaign: start a new one, with --import {STATE_FILE}"
            )
        options = _options(plan)
        other = list(_differences(data["options"], options))
        if other:
            raise PolicyError(f"the campaign ran with other options: {', '.join(other)}, or start a new campaign")
        return CampaignResult(
            plan=plan, cases=data["cases"], seconds=data["seconds"], chunks=list(data["chunks"]),
            calls=data["calls"], errors=data["errors"],
            findings={finding["signature"]: finding for finding in data["findings"]},
            behaviours={entry[0]: entry for entry in data["behaviours"]},
            points=[tuple(point) for point in data["points"]], line=[tuple(point) for point in data["line"]],
            edges=[tuple(point) for point in data["edges"]],
            usual=dict.fromkeys(data["usual"]), coverage=_coverage(data["coverage"]),
            words=dict.fromkeys((kind, value) for kind, value in data["words"]),
        )  # fmt: skip


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield the changes that make the options of the command line those of the campaign."""
    for name in _COMPARED:
        if before.get(name) != now[name]:
            old, new = _command_line(name, before.get(name)), _command_line(name, now[name])
            changes = [f"add {word}" for word in old if word not in new]
            changes += [f"leave out {word}" for word in new if word not in old]
            yield from (printable(change, 200) for change in changes or [f"{_OPTIONS.get(name, name)} differs"])


def _command_line(name: str, value: Any) -> list[str]:
    """Return the words of the command line that give an option of the plan this value; those of a file have only one.

    The value may be of any type, because it comes from a file.
    """
    option = _OPTIONS.get(name, name)
    if name in ("dictionary", "examples", "programs") or value in (None, "", [], _DEFAULTS.get(name)):
        return []
    if isinstance(value, list):
        return [str(item) if name == "flags" else f"{option}={item}" for item in value]
    return [option if isinstance(value, bool) else f"{option}={value}"]


def _is_word(data: Any) -> bool:
    """Return whether plain data is an entry that a dictionary learned."""
    kind, value = data
    if kind == "bytes":
        bytes.fromhex(value)
    return kind in ("integer", "bytes", "text") and isinstance(value, int if kind == "integer" else str)


def _coverage(text: str) -> bytes:
    """Return the map of edges; empty if it is malformed: the campaign then reaches its edges anew."""
    try:
        return zlib.decompressobj().decompress(b64decode(text), _MAX_COVERAGE_BYTES)
    except (ValueError, zlib.error):
        return b""


def _checked(data: Any) -> Mapping[str, Any]:
    """Return the state if it has the expected form; raise ``ValueError`` otherwise."""
    numbers = [
        data["cases"],
        data["seconds"],
        *data["chunks"],
        *(n for c in data["calls"].values() for n in c.values()),
    ]
    points = [*data["points"], *data["line"]]
    numbers += [number for pair in data["edges"] for number in pair]
    good = (
        data["format"] == _FORMAT
        and isinstance(data["artifact"], str) and isinstance(data["digest"], str) and isinstance(data["seed"], int)
        and isinstance(data["options"], dict)
        and all(isinstance(number, (int, float)) for number in numbers)
        and all(isinstance(text, str) for text in data["errors"].values())
        and all(isinstance(point, list) and len(point) == 3 for point in points)
        and all(isinstance(point, list) and len(point) == 2 for point in data["edges"])
        and isinstance(data["coverage"], str)
        and all(isinstance(pair, list) and len(pair) == 2 for pair in data["edges"])
        and all(map(_is_word, data["words"])) and all(isinstance(text, str) for text in data["usual"])
        and all(map(is_finding, data["findings"]))
        and all(is_behaviour(entry) and len(entry) >= 6 for entry in data["behaviours"])
    )  # fmt: skip
    if not good:
        raise ValueError("not the state of a campaign")
    return data  # type: ignore[no-any-return]
