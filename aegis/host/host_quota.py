"""Bytes that the host keeps for a guest from one call to the next, bounded together.

What a guest makes the host hold, and who bounds it (limits in ``code``):

==============================================  ====================================================================
what                                            bound
==============================================  ====================================================================
arguments and results of a call, both ways      ``value_bytes``: a list's elements with all their parts, before they
                                                are made; long ones in pieces, with a look at the deadline
one read by preview 1 or :class:`aegis.Caller`  ``value_bytes``; what preview 1 writes passes in pieces of 1 MiB
handles                                         ``handles``, the host's and the guest's together
listings of directories, open or streamed       ``value_bytes`` at once (here), ``open_files`` in number
files that were seen: numbers, new times        ``value_bytes`` at once (here): 150 to 900 bytes each
bodies gathered before their request is sent    ``value_bytes`` at once (here), 64 KiB each
HTTP exchanges under way                        ``http_requests``, and 64 KiB each way of each
responses that came, and were not read          ``connections`` and ``network_bytes``: 64 KiB of body, and fields
HTTP fields                                     ``http_fields``, ``http_field_bytes`` of a message; what a guest gave
                                                of them were values, copies share them
TCP                                             ``sockets``: 64 KiB unsent of each
datagrams                                       16 of 64 KiB in a call, none kept
names being looked up, and their addresses      ``sockets``, ``resolver_answers``
values of several keys, and handles of values   ``value_bytes`` at once (here), 200 bytes each beside the value
entries of buckets                              the quotas of the key-value capability
captured output                                 ``stdout``, ``stderr``
log lines                                       4,096 characters each; the text was a value
random bytes                                    ``value_bytes``, in pieces of 64 KiB
polls                                           65,536 subscriptions; pollables are handles
error messages, traps, frames                   cut: 32 frames of 80 characters, texts of 200 to 400
linear memory, tables                           ``memory``, ``table_elements`` (:mod:`aegis.wasm.fit`, ``accounts``)
==============================================  ====================================================================
"""

from __future__ import annotations

from aegis.errors import QuotaExceeded
from aegis.limits import exceeded

__all__ = ["Holding", "Holdings"]


class Holdings:
    """What one sandbox has the host keep, in bytes, about: an object counts with what Python needs for it."""

    def __init__(self, allowed: int | None) -> None:
        self.allowed = allowed
        self.used = 0

    def hold(self) -> Holding:
        """Return a part of it, empty so far."""
        return Holding(self)


class Holding:
    """One thing that is kept. Its bytes are given back when nobody refers to it any more."""

    __slots__ = ("_count", "_owner")

    def __init__(self, owner: Holdings) -> None:
        self._owner, self._count = owner, 0

    def add(self, count: int) -> None:
        """Count bytes about to be kept; raise ``QuotaExceeded`` when all together are too many."""
        owner = self._owner
        used = owner.used + count
        if owner.allowed is not None and used > owner.allowed:
            message = exceeded("value_bytes", used, owner.allowed, unit="bytes kept for the guest")
            raise QuotaExceeded(message, limit="value_bytes", used=used, allowed=owner.allowed)
        owner.used = used
        self._count += count

    def clear(self) -> None:
        """Give the bytes back: they are kept no longer."""
        self._owner.used -= self._count
        self._count = 0

    def __del__(self) -> None:
        self.clear()
