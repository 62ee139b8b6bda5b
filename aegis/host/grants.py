"""The grants of one sandbox: live authority, acquired from a policy, closed with the sandbox.

Each is acquired when it is first used: a guest that asks for nothing costs nothing, and a grant that
cannot be acquired is an error before the guest runs only if the guest could use it. The module of a grant is loaded
as late, so that a guest waits for no module that serves others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from aegis.errors import PolicyError
from aegis.host.files.file_times import FileTimes, beginning
from aegis.policy import EnvironmentCapability, Policy
from aegis.support.bounded_cache import lazily
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import TYPE_CHECKING
from aegis.values import CallScope

if TYPE_CHECKING:
    from aegis.host.clocks import Clocks
    from aegis.host.files.directory import DiskQuota, Opened
    from aegis.host.files.file_id import FileNumbers
    from aegis.host.files.preopens import Preopen
    from aegis.host.files.protected import Protected
    from aegis.host.host_quota import Holdings
    from aegis.host.keyvalue import Buckets
    from aegis.host.logs import GuestLog
    from aegis.host.net.network import Network
    from aegis.host.stdio import Stdio

__all__ = ["Grants", "acquire", "environment_of"]


class Grants:
    """What one sandbox holds. Closing it closes every descriptor."""

    def __init__(
        self, policy: Policy, args: Sequence[str], scope: CallScope, protected: Sequence[Protected] = ()
    ) -> None:
        self.policy = policy
        self.scope = scope
        self.args = tuple(_argument(a) for a in args)
        self._protected = tuple(protected)
        self._began = beginning()
        self._closers: list[Callable[[], None]] = []

    @lazily
    def stdio(self) -> Stdio:
        """The standard streams."""
        from aegis.host.stdio import acquire_stdio

        with standard_reserved():
            if self.policy.stdio.stdin_file is not None:  # a guest may have put a link in its place
                from aegis.host.files.preopens import check_filesystem
                from aegis.host.files.protected import protected_by

                check_filesystem(self.policy.filesystem, protected_by(self.policy))
            stdio = acquire_stdio(self.policy.stdio, self.policy.limits, self.scope)
        self._closers.append(stdio.close)
        return stdio

    @lazily
    def preopens(self) -> list[Preopen]:
        """The granted directories, open."""
        if not self.policy.filesystem.paths:
            return []
        from aegis.host.files.preopens import acquire_filesystem
        from aegis.host.files.protected import protected_by

        protected = (*self._protected, *protected_by(self.policy))
        with standard_reserved():
            return acquire_filesystem(self.policy.filesystem, protected, self.opened)

    @lazily
    def opened(self) -> Opened:
        """The descriptors of granted files and directories, and of those that the guest opened."""
        from aegis.host.files.directory import Opened

        opened = Opened()
        self._closers.append(opened.close_all)
        return opened

    @lazily
    def numbers(self) -> FileNumbers:
        """The inode numbers that the guest sees."""
        from aegis.host.files.file_id import FileNumbers

        return FileNumbers(self.holdings)

    @lazily
    def times(self) -> FileTimes:
        """The times of files that the guest sees."""
        return FileTimes(self.clocks, self.holdings, self._began)

    @lazily
    def disk(self) -> DiskQuota:
        """What may still be written to disk."""
        from aegis.host.files.directory import DiskQuota

        return DiskQuota(self.policy.limits.disk_written)

    @lazily
    def holdings(self) -> Holdings:
        """What may be kept for the guest from call to call."""
        from aegis.host.host_quota import Holdings

        return Holdings(self.policy.limits.value_bytes)

    @lazily
    def network(self) -> Network:
        """The network, closed but for what the policy opens."""
        from aegis.host.net.network import Network

        network = Network(self.policy.network, self.policy.limits, self.scope)
        self._closers.append(network.close)
        return network

    @lazily
    def keyvalue(self) -> Buckets:
        """The key-value stores, none but those that the policy names."""
        from aegis.host.keyvalue import Buckets

        buckets = Buckets(self.policy.keyvalue, self.scope, self.holdings, lambda count: self.disk.charge(count))
        self._closers.append(buckets.close)
        return buckets

    @lazily
    def clocks(self) -> Clocks:
        """The clocks."""
        from aegis.host.clocks import acquire_clocks

        return acquire_clocks(self.policy.clock)

    @lazily
    def random(self) -> Callable[[int], bytes]:
        """The source of random bytes."""
        from aegis.host.entropy import acquire_random

        return acquire_random(self.policy.random)

    @lazily
    def log(self) -> GuestLog:
        """The log."""
        from aegis.host.logs import GuestLog

        return GuestLog(self.policy.logging, self.scope)

    @lazily
    def environment(self) -> list[tuple[str, str]]:
        """The variables, in order; one to pass on that the host lacks, or that is not Unicode, is left out."""
        return environment_of(self.policy.environment)

    def on_close(self, closer: Callable[[], None]) -> None:
        """Have ``closer`` called when the sandbox ends."""
        self._closers.append(closer)

    def close(self) -> None:
        """Close everything, the latest first."""
        while self._closers:
            self._closers.pop()()


def environment_of(granted: EnvironmentCapability) -> list[tuple[str, str]]:
    """Return the variables that a grant gives here and now."""
    passed = {name: os.environ[name] for name in granted.pass_ if name in os.environ}
    found = {name: value for name, value in passed.items() if _is_unicode(value)}
    return list({**found, **dict(granted.set)}.items())


def _argument(text: str) -> bytes:
    if not isinstance(text, str):
        raise PolicyError(f"an argument must be text, not {type(text).__name__}")
    if "\0" in text:
        raise PolicyError(f"the argument {text!r} holds a NUL, which no program's argument can")
    return text.encode("utf-8", "surrogateescape")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def acquire(
    policy: Policy, *, args: Sequence[str] = (), scope: CallScope, protected: Sequence[Protected] = ()
) -> Grants:
    """Return the grants that ``policy`` states, for one sandbox whose calls are ``scope``'s.

    No grant may give the guest what is ``protected``, nor what :func:`~aegis.host.files.protected.protected_by` lists.
    Raise :class:`~aegis.errors.PolicyError` for an argument that no program can get.
    """
    return Grants(policy, args, scope, protected)
