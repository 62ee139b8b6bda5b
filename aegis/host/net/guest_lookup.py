"""Look-ups of names by a guest, in all versions of ``wasi:sockets/ip-name-lookup``."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from aegis.host.net.socket_errors import refuse
from aegis.policy.addresses import read_address
from aegis.policy.patterns import plain_host

if TYPE_CHECKING:
    from aegis.host.net.network import Lookup, Network

__all__ = ["GuestLookup"]

_MAX_NAME_CHARACTERS = 253


class GuestLookup:
    """The look-up of one name, which :meth:`begin` starts.

    An address, in any notation, is its own result, and is judged when it is used. Raise ``EINVAL`` for what is neither
    a name nor an address, and ``EACCES`` for a name that the policy denies.
    """

    def __init__(self, network: Network, name: str) -> None:
        host = plain_host(name)
        if host is None or len(name) > _MAX_NAME_CHARACTERS:
            raise refuse(errno.EINVAL)
        self._network, self._name = network, host
        self._lookup: Lookup | None = None
        self.is_address = read_address(host) is not None
        if not self.is_address and not network.may_look_up(host):
            raise refuse(errno.EACCES)

    def begin(self) -> None:
        """Begin to look the name up; raise ``OSError`` when too many look-ups are under way."""
        if not self.is_address:
            self._lookup = self._network.look_up(self._name)

    @property
    def done(self) -> bool:
        """Whether the look-up has ended."""
        return self._lookup is None or self._lookup.done

    @property
    def awaited(self) -> tuple[int, ...]:
        """The descriptors that become readable when the look-up has ended."""
        return () if self._lookup is None else (self._lookup.descriptor,)

    def addresses(self) -> list[str]:
        """Return the addresses that the policy allows, of a look-up that has ended; raise the resolver's error."""
        lookup, self._lookup = self._lookup, None
        if lookup is None:
            return [self._name]
        found = self._network.answered(lookup)
        lookup.close()
        if lookup.error is not None:
            raise lookup.error
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address that the policy allows")
        return found

    def forget(self) -> None:
        """Give the look-up up."""
        lookup, self._lookup = self._lookup, None
        if lookup is not None:
            self._network.forget(lookup)
