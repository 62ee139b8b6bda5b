"""What the two protocols speak of: a request, the head of a response, fields."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Fields", "Head", "Request"]

Fields = list[tuple[bytes, bytes]]
"""Names and values, in order."""


class Request(NamedTuple):
    """What is asked of a server."""

    method: str
    scheme: str
    authority: str
    target: str
    fields: Fields
    has_body: bool


class Head(NamedTuple):
    """How a response begins."""

    status: int
    fields: Fields
