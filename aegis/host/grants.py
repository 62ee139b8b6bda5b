"""The grants of one sandbox: live authority, acquired from a policy, closed with the sandbox.

Each grant is acquired when it is first used: a guest that uses none costs nothing, and a grant that cannot be acquired
is an error before the guest runs only if the guest could use it. The module of a grant is imported as late, so that a
guest does not wait for modules that it does not need.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache

from aegis.errors import PolicyError
from aegis.policy import EnvironmentCapability, Policy
from aegis.support.bounded_cache import lazily
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import TYPE_CHECKING, Any, Protocol, TypeVar
from aegis.values import CallScope

if TYPE_CHECKING:
    from aegis.host.clocks import Clocks
    from aegis.host.files.directory import OpenDescriptors
    from aegis.host.files.file_id import FileNumbers
    from aegis.host.files.file_times import FileTimes
    from aegis.host.files.preopens import Preopen
    from aegis.host.files.protected import Protected
    from aegis.host.host_quota import DiskQuota, HostQuota
    from aegis.host.logs import GuestLog
    from aegis.host.net.network import Network
    from aegis.host.stdio import Stdio

__all__ = ["Grants", "Provider", "acquire", "environment_of"]


class Provider(Protocol):
    """The live authority that one capability grants to one sandbox: the only code that reaches the host for it."""

    @classmethod
    def acquire(cls, grants: Grants) -> Any:
        """Return the provider for a sandbox with these grants; raise ``PolicyError`` if it cannot be acquired."""

    def close(self) -> None:
        """Release everything that the provider holds."""


_Provider = TypeVar("_Provider", bound=Provider)


class Grants:
    """The grants of one sandbox. Closing them closes every descriptor."""

    def __init__(
        self, policy: Policy, args: Sequence[str], scope: CallScope, protected: Sequence[Protected] = ()
    ) -> None:
        self.policy = policy
        self.scope = scope
        self.args = tuple(map(_argument, args))
        self._protected = protected
        self._began = _beginning() if policy.filesystem.paths else 0
        """When the sandbox began; ``times`` compares the times of granted files with it. 0 without granted files."""
        self._closers: list[Callable[[], None]] = []
        self._providers: dict[type, Any] = {}

    @lazily
    def stdio(self) -> Stdio:
        """The standard streams."""
        acquire_stdio, opens_nothing = _stdio_functions()
        named = self.policy.stdio
        if opens_nothing(named):
            return acquire_stdio(named, self.policy.limits, self.scope)
        with standard_reserved():
            if named.stdin_file is not None:  # an earlier guest may have put a link in its place
                from aegis.host.files.preopens import check_filesystem
                from aegis.host.files.protected import protected_by

                check_filesystem(self.policy.filesystem, protected_by(self.policy), self.policy.sources)
            stdio = acquire_stdio(named, self.policy.limits, self.scope)
        self._closers.append(stdio.close)
        return stdio

    @lazily
    def preopens(self) -> list[Preopen]:
        """The granted directories, open, under the guest's names."""
        if not self.policy.filesystem.paths:
            return []
        from aegis.host.files.preopens import acquire_filesystem
        from aegis.host.files.protected import protected_by

        protected = (*self._protected, *protected_by(self.policy))
        with standard_reserved():
            return acquire_filesystem(self.policy.filesystem, protected, self.opened, self.policy.sources)

    @lazily
    def opened(self) -> OpenDescriptors:
        """The descriptors of granted files and directories, and of those that the guest opened."""
        from aegis.host.files.directory import OpenDescriptors

        opened = OpenDescriptors()
        self._closers.append(opened.close_all)
        return opened

    @lazily
    def numbers(self) -> FileNumbers:
        """The inode numbers that the guest sees."""
        from aegis.host.files.file_id import FileNumbers

        return FileNumbers(self.host_quota)

    @lazily
    def times(self) -> FileTimes:
        """The times of files that the guest sees."""
        from aegis.host.files.file_times import FileTimes

        return FileTimes(self.clocks, self.host_quota, self._began or _beginning())

    @lazily
    def disk(self) -> DiskQuota:
        """The bytes written to disk, and their limit."""
        from aegis.host.host_quota import DiskQuota

        return DiskQuota(self.policy.limits.disk_written)

    @lazily
    def host_quota(self) -> HostQuota:
        """The bytes that the host keeps for the guest from call to call, and their limit."""
        from aegis.host.host_quota import HostQuota

        return HostQuota(self.policy.limits.value_bytes)

    @lazily
    def network(self) -> Network:
        """The network, as far as the policy allows it."""
        from aegis.host.net.network import Network

        network = Network(self.policy.network, self.policy.limits, self.scope)
        self._closers.append(network.close)
        return network

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
        """The variables, in order. A variable to pass on is left out if the host has none or it is not Unicode."""
        return environment_of(self.policy.environment)

    def of(self, provider: type[_Provider]) -> _Provider:
        """Return the provider of a capability, acquired at its first use and closed with the sandbox.

        ``provider.acquire(self)`` makes it from ``policy``.
        """
        made: _Provider | None = self._providers.get(provider)
        if made is None:
            made = self._providers[provider] = provider.acquire(self)
            self._closers.append(made.close)
        return made

    def supply(
        self, *, stdio: Stdio | None = None, preopens: Sequence[Preopen] | None = None,
        environment: Sequence[tuple[str, str]] | None = None, network: Network | None = None,
    ) -> None:  # fmt: skip
        """Set grants that were acquired elsewhere, before their first use: in a worker its parent acquires them.

        The caller has them closed, by :meth:`on_close` where closing is needed.
        """
        supplied = {"stdio": stdio, "preopens": preopens, "environment": environment, "network": network}
        vars(self).update((name, grant) for name, grant in supplied.items() if grant is not None)

    @property
    def acquired_stdio(self) -> Stdio | None:
        """The standard streams if they were acquired, ``None`` if no call has used them."""
        stdio: Stdio | None = vars(self).get("stdio")
        return stdio

    def on_close(self, closer: Callable[[], None]) -> None:
        """Call ``closer`` when the sandbox ends, before those that were registered earlier."""
        self._closers.append(closer)

    def close(self) -> None:
        """Close all grants, the latest first."""
        while self._closers:
            self._closers.pop()()


@cache
def _stdio_functions() -> tuple[Callable[..., Stdio], Callable[..., bool]]:
    from aegis.host.stdio import acquire_stdio, opens_nothing

    return acquire_stdio, opens_nothing


def environment_of(granted: EnvironmentCapability) -> list[tuple[str, str]]:
    """Return the variables that a grant gives in this process now."""
    if not granted.pass_ and not granted.set:
        return []
    passed = {name: os.environ[name] for name in granted.pass_ if name in os.environ}
    found = {name: value for name, value in passed.items() if _is_unicode(value)}
    return list({**found, **dict(granted.set)}.items())


def _beginning() -> int:
    from aegis.host.files.file_times import beginning

    return beginning()


def _argument(text: str) -> bytes:
    if not isinstance(text, str):
        raise PolicyError(f"an argument must be text, not {type(text).__name__}: pass a str")
    if "\0" in text:
        raise PolicyError(f"the argument {text!r} contains a NUL: remove it, for no program can receive one")
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
    """Return the grants that ``policy`` states, for one sandbox whose calls have the scope ``scope``.

    No grant gives the guest access to ``protected`` files, nor to those that
    :func:`~aegis.host.files.protected.protected_by` lists. Raise :class:`~aegis.errors.PolicyError` for an argument
    that no program can receive.
    """
    return Grants(policy, args, scope, protected)
