"""In a worker: the backend of its run. Grants are made of descriptors that the parent opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aegis import host
from aegis.engine.compile.code import Artifact
from aegis.engine.compile.config import EngineConfig
from aegis.host.stdio import StandardInput, StandardOutput, Stdio
from aegis.isolation.protocol.setup import Folder, Setup
from aegis.isolation.worker.host_calls import RemoteLookups, RemoteTimes
from aegis.isolation.worker.streams import RemoteInput, RemoteOutput, RemoteStreams
from aegis.sandbox.in_process import InProcessBackend
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import CallScope

if TYPE_CHECKING:
    from aegis.host.files.directory import OpenDescriptors
    from aegis.host.files.preopens import Preopen
    from aegis.host.net.network import Network
    from aegis.sandbox.link_component import Providers
    from aegis.sandbox.run import Run

__all__ = ["WorkerBackend"]


class WorkerBackend(InProcessBackend):
    """Runs a guest here, in the worker, on what the parent handed over."""

    def __init__(
        self, setup: Setup, descriptors: Sequence[int], providers: Callable[[Any], Providers],
        streams: Callable[[CallScope], RemoteStreams], resolve: Callable[[int, str], None],
        ask: Callable[..., Any], tell: Callable[..., None],
        set_times: Callable[[str | None, tuple[int, int]], int | None],
    ) -> None:  # fmt: skip
        super().__init__(setup.policy, setup.config, setup.config)
        self._explain = None  # the parent does that, and would not believe it
        self._setup, self._descriptors, self._providers = setup, descriptors, providers
        self._streams, self._resolve, self._set_times = streams, resolve, set_times
        self._ask_sockets, self._tell_sockets = ask, tell

    def engine_of(self, artifact: Artifact, *, watched: bool = False, pooled: bool = True) -> EngineConfig:
        """Return the kind of engine that the parent chose: its code is what came."""
        return self._setup.config

    def providers(self, component: Any, imports: Mapping[str, Any], *, trap_missing: bool) -> Providers:
        """Return the parent's providers, and WASI here."""
        return self._providers(component)

    def acquire(self, run: Run) -> host.Grants:
        """Return grants made of what came with the setup."""
        grants = host.acquire(self.policy, args=run.args, scope=run.door)
        folders = self._setup.folders
        grants.supply(
            stdio=self._stdio(run.door), environment=list(self._setup.environment),
            preopens=[self._preopen(number, folder, grants.opened) for number, folder in enumerate(folders)],
        )  # fmt: skip
        if self._setup.resolver is not None:
            grants.supply(network=self._network(self._setup.resolver, grants))
        if self._setup.times is not None:
            from aegis.host.files.utime import use

            use(RemoteTimes(self._descriptors[self._setup.times], self._set_times))
        return grants

    def _network(self, resolver: int, grants: host.Grants) -> Network:
        from aegis.host.net.network import Network  # loads what only a network needs
        from aegis.isolation.worker.sockets import RemoteSockets

        assert self._setup.sockets is not None
        lookups = RemoteLookups(self._descriptors[resolver], self._resolve)
        sockets = RemoteSockets(self._descriptors[self._setup.sockets], self._ask_sockets, self._tell_sockets)
        policy = self.policy
        network = Network(policy.network, policy.limits, grants.scope, begin=lookups.begin, opener=sockets)
        grants.on_close(network.close)
        return network

    def _stdio(self, scope: CallScope) -> Stdio:
        setup, limits = self._setup, self.policy.limits
        streams = self._streams(scope)
        given = setup.policy.stdio.stdin
        stdin: StandardInput = StandardInput(given if isinstance(given, bytes) else b"", scope)
        if setup.stdin:
            stdin = RemoteInput(streams, scope, terminal=setup.terminals[0])
        return Stdio(
            stdin,
            self._output(1, setup.stdout, limits.stdout, streams, scope),
            self._output(2, setup.stderr, limits.stderr, streams, scope),
        )

    def _output(
        self, number: int, mode: str, limit: int | None, streams: RemoteStreams, scope: CallScope
    ) -> StandardOutput:
        if mode == "discard":
            return StandardOutput("stdout" if number == 1 else "stderr", mode, -1, limit, scope)
        terminal = self._setup.terminals[number]
        return RemoteOutput(number, mode, limit, scope, streams, terminal=terminal)

    def _preopen(self, number: int, folder: Folder, opened: OpenDescriptors) -> Preopen:
        """Return what the guest finds; ``opened`` does not keep descriptors that the session closes."""
        from aegis.host.files.directory import HostDirectory
        from aegis.host.files.preopens import Preopen
        from aegis.host.files.single_file import GrantedFile, SingleFiles

        if folder.descriptor is not None:
            directory = HostDirectory(self._descriptors[folder.descriptor], writable=folder.writable, opened=opened)
            return Preopen(folder.guest, directory)
        files = {name: GrantedFile(self._descriptors[n], writable) for name, (n, writable) in folder.files.items()}
        return Preopen(folder.guest, SingleFiles(number=number, opened=opened, files=files))
