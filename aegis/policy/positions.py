"""The lines of policy files that name files of the host, for errors that are found after the policy was read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aegis.policy.file import MAX_POLICY_BYTES
from aegis.policy.filesystem import absolute, split_grant
from aegis.policy.toml_lines import ValuePath, line_of

__all__ = ["position_of_bucket", "position_of_grant"]


def position_of_grant(sources: Sequence[str], host: str) -> tuple[str | None, int | None]:
    """Return the policy file among ``sources`` that grants the absolute path ``host``, and the line of the grant."""

    def match(data: Mapping[str, Any], base: str) -> ValuePath | None:
        for n, entry in enumerate(data["capabilities"]["filesystem"]["paths"]):
            text = entry if isinstance(entry, str) else entry["path"]
            if absolute(split_grant(text)[0], base) == host:
                return ("capabilities", "filesystem", "paths", n)
        return None

    return _position(sources, match)


def position_of_bucket(sources: Sequence[str], name: str) -> tuple[str | None, int | None]:
    """Return the policy file among ``sources`` that grants the key-value bucket ``name``, and the line of the grant."""

    def match(data: Mapping[str, Any], base: str) -> ValuePath | None:
        buckets = data["capabilities"]["keyvalue"]["buckets"]
        return ("capabilities", "keyvalue", "buckets", name) if name in buckets else None

    return _position(sources, match)


def _position(
    sources: Sequence[str], match: Callable[[Mapping[str, Any], str], ValuePath | None]
) -> tuple[str | None, int | None]:
    """Return the first of ``sources`` with a matching value, and its line; ``None`` twice if there is none.

    The files were valid when the policy was read, and may have changed since.
    """
    import tomllib

    for source in sources:
        try:
            with open(source, "rb") as file:
                text = file.read(MAX_POLICY_BYTES).decode("utf-8-sig")
            path = match(tomllib.loads(text), os.path.dirname(os.path.abspath(source)))
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            continue
        if path is not None:
            return source, line_of(text, path)
    return None, None
