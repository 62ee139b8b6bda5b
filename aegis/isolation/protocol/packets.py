"""Packets on sockets other than the channel: of the fork server, and with the descriptors of sockets.

:mod:`aegis.isolation.worker.fork_server` documents the former, :mod:`aegis.isolation.parent.sockets` the latter.
"""

from __future__ import annotations

import struct

__all__ = ["ENDED", "FORKED", "PACKET", "SOCKET_NUMBER"]

PACKET = 4096
"""Maximum size of a packet in bytes."""
FORKED = struct.Struct("<cI")
ENDED = struct.Struct("<cIi")
SOCKET_NUMBER = struct.Struct("<q")
"""Content of a packet that passes descriptors: the number of their socket."""
