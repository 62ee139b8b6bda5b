"""Quotas of the host: bytes kept for a guest from one call to the next, and bytes written to disk.

Everything that a guest can make the host keep, with its bound (limits in ``code``):

==============================================  ====================================================================
kept                                            bound
==============================================  ====================================================================
arguments and results of a call, both ways      ``value_bytes``: a list's elements with all their parts, before they
                                                are made; long ones in chunks, with deadline checks between
one read by preview 1 or :class:`aegis.Caller`  ``value_bytes``; writes of preview 1 pass in chunks of 1 MiB
handles                                         ``handles``, the host's and the guest's together
listings of directories, open or streamed       ``value_bytes`` at once (here), ``open_files`` in number
numbers and new times of files seen             ``value_bytes`` at once (here): 150 to 900 bytes each
bodies gathered before their request is sent    ``value_bytes`` at once (here), 64 KiB each
HTTP exchanges under way                        ``http_requests``, and 64 KiB each way of each
responses received and not yet read             ``connections`` and ``network_bytes``: 64 KiB of body, and fields
HTTP fields                                     ``http_fields``, ``http_field_bytes`` of a message; those that a guest
                                                gave are values, which copies share
TCP                                             ``sockets``: 64 KiB unsent of each
datagrams                                       16 of 64 KiB in a call, none kept
lookups under way, and their addresses          ``sockets``, ``resolver_answers``
values of several keys, and handles of values   ``value_bytes`` at once (here), 200 bytes each beside the value
entries of buckets                              the quotas of the key-value capability
captured output                                 ``stdout``, ``stderr``
log lines                                       4,096 characters each; the text was a value
random bytes                                    ``value_bytes``, in chunks of 64 KiB
polls                                           65,536 subscriptions; pollables are handles
error messages, traps, frames                   truncated: 32 frames of 80 characters, texts of 200 to 400
linear memory, tables                           ``memory``, ``table_elements`` (:mod:`aegis.wasm.caps`,
                                                :mod:`aegis.engine.store.memory_accounting`)
==============================================  ====================================================================
"""

from __future__ import annotations

from aegis.errors import QuotaExceeded
from aegis.limits import exceeded

__all__ = ["DiskQuota", "HostQuota", "QuotaReservation"]


class HostQuota:
    """The bytes that the host keeps for one sandbox (limit ``value_bytes``), the size of Python's objects included."""

    def __init__(self, allowed: int | None) -> None:
        self.allowed = allowed
        self.used = 0

    def reserve(self) -> QuotaReservation:
        """Return a reservation of this quota, empty so far."""
        return QuotaReservation(self)


class QuotaReservation:
    """The bytes of one object that the host keeps. They return to the quota when the reservation is freed."""

    __slots__ = ("_count", "_quota")

    def __init__(self, quota: HostQuota) -> None:
        self._quota, self._count = quota, 0

    def add(self, count: int) -> None:
        """Reserve bytes before they are kept; raise ``QuotaExceeded`` when the sum exceeds the quota."""
        quota = self._quota
        used = quota.used + count
        if quota.allowed is not None and used > quota.allowed:
            message = exceeded("value_bytes", used, quota.allowed, unit="bytes kept for the guest")
            raise QuotaExceeded(message, limit="value_bytes", used=used, allowed=quota.allowed)
        quota.used = used
        self._count += count

    def clear(self) -> None:
        """Return all bytes to the quota."""
        self._quota.used -= self._count
        self._count = 0

    def __del__(self) -> None:
        self.clear()


class DiskQuota:
    """The bytes that one sandbox has written to disk, over all its files (limit ``disk_written``)."""

    def __init__(self, allowed: int | None) -> None:
        self.allowed = allowed
        self.used = 0

    def charge(self, count: int) -> None:
        """Count bytes about to be written; raise ``QuotaExceeded`` before they are."""
        used = self.used + count
        if self.allowed is not None and used > self.allowed:
            raise QuotaExceeded(
                exceeded("disk_written", used, self.allowed), limit="disk_written", used=used, allowed=self.allowed
            )
        self.used = used
