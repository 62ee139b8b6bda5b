"""The packets between a parent and its fork server; :mod:`aegis.isolation.worker.fork_server` says what they mean."""

from __future__ import annotations

import struct

__all__ = ["ENDED", "FORKED", "PACKET"]

PACKET = 4096
"""Bytes of the longest."""
FORKED = struct.Struct("<cI")
ENDED = struct.Struct("<cIi")
