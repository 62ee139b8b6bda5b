"""Word the fact that nothing provides an import: errors of a run, ``aegis validate`` and ``aegis inspect`` share it."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.errors import MissingImport
from aegis.text import count

__all__ = ["missing_item", "missing_lead", "missing_needs", "missing_text"]

_MAX_SHOWN_IMPORTS = 20


def missing_lead(missing: Sequence[MissingImport]) -> str:
    """Return how many imports nothing provides."""
    return f"nothing provides {count(len(missing), 'import')}"


def missing_item(missing: MissingImport) -> str:
    """Return the name and type of one import; an interface of a component has no name besides its module."""
    return f"{missing.module}.{missing.name} {missing.type}" if missing.name else f"{missing.module} ({missing.type})"


def missing_text(missing: Sequence[MissingImport]) -> str:
    """Return the message for all imports, each with its remedy."""
    shown = [f"{missing_item(each)}: {each.remedy}" for each in missing[:_MAX_SHOWN_IMPORTS]]
    left = len(missing) - _MAX_SHOWN_IMPORTS
    return f"{missing_lead(missing)}: {'; '.join(shown)}{f'; and {left} more' if left > 0 else ''}"


def missing_needs(missing: Sequence[MissingImport]) -> list[dict[str, str]]:
    """Return the imports that nothing provides, in the words of the error of a run."""
    return [{"what": f"{missing_lead([each])}: {missing_item(each)}", "grant": each.remedy} for each in missing]
