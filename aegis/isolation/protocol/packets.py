"""The packets between a parent and its fork server, whose meaning :mod:`aegis.isolation.worker.fork_server` defines."""

from __future__ import annotations

import struct

__all__ = ["ENDED", "FORKED", "PACKET"]

PACKET = 4096
"""Maximum size of a packet in bytes."""
FORKED = struct.Struct("<cI")
ENDED = struct.Struct("<cIi")
