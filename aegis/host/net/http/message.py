"""The values that both protocols share: requests, heads of responses, and fields."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Fields", "Head", "Request"]

Fields = list[tuple[bytes, bytes]]
"""Names and values, in order."""


class Request(NamedTuple):
    """A request. ``fields`` has no field that frames the message, which Aegis writes itself.

    ``length`` is the number of bytes in the body, ``None`` when it is not known before its end.
    """

    method: str
    scheme: str
    authority: str
    target: str
    fields: Fields
    has_body: bool
    length: int | None


class Head(NamedTuple):
    """The status and header fields of a response."""

    status: int
    fields: Fields
