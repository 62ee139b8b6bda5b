"""The backend of a run in a worker. Its grants are made of descriptors that the parent opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aegis import host
from aegis.engine.compile.code import Artifact
from aegis.engine.compile.config import EngineConfig
from aegis.host.stdio import StandardInput, StandardOutput, Stdio
from aegis.isolation.protocol.specs import Folder, SandboxSpec
from aegis.isolation.worker.host_calls import RemoteLookups, RemoteTimes
from aegis.isolation.worker.streams import RemoteInput, RemoteOutput, RemoteStreams
from aegis.sandbox.in_process import InProcessBackend
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import CallScope

if TYPE_CHECKING:
    from aegis.host.files.directory import OpenDescriptors
    from aegis.host.files.preopens import Preopen
    from aegis.host.net.network import Network
    from aegis.sandbox.backend import Run
    from aegis.sandbox.link_component import Providers

__all__ = ["WorkerBackend"]


class WorkerBackend(InProcessBackend):
    """Runs a guest in the worker process, with the descriptors and values that the parent sent."""

    def __init__(
        self, spec: SandboxSpec, descriptors: Sequence[int], providers: Callable[[Any], Providers],
        streams: Callable[[CallScope], RemoteStreams], resolve: Callable[[int, str], None],
        ask: Callable[..., Any], notify: Callable[..., None],
        set_times: Callable[[str | None, tuple[int, int]], int | None],
    ) -> None:  # fmt: skip
        super().__init__(spec.policy, spec.config, spec.config)
        self._explain = None  # the parent explains denials itself, because it does not trust the worker's text
        self._spec, self._descriptors, self._providers = spec, descriptors, providers
        self._streams, self._resolve, self._set_times = streams, resolve, set_times
        self._ask_sockets, self._notify_sockets = ask, notify

    def engine_of(self, artifact: Artifact, *, watched: bool = False, pooled: bool = True) -> EngineConfig:
        """Return the engine configuration that the parent chose and compiled the code for."""
        return self._spec.config

    def providers(self, component: Any, imports: Mapping[str, Any], *, trap_missing: bool) -> Providers:
        """Return providers that forward to the parent, and WASI in this process."""
        return self._providers(component)

    def acquire(self, run: Run) -> host.Grants:
        """Return grants made of the specification and the descriptors that arrived with it."""
        grants = host.acquire(self.policy, args=run.args, scope=run.door)
        folders = self._spec.folders
        grants.supply(
            stdio=self._stdio(run.door), environment=list(self._spec.environment),
            preopens=[self._preopen(number, folder, grants.opened) for number, folder in enumerate(folders)],
        )  # fmt: skip
        if self._spec.resolver is not None:
            grants.supply(network=self._network(self._spec.resolver, grants))
        if self._spec.times is not None:
            from aegis.host.files.utime import use

            use(RemoteTimes(self._descriptors[self._spec.times], self._set_times))
        return grants

    def _network(self, resolver: int, grants: host.Grants) -> Network:
        from aegis.host.net.network import Network  # imports modules that only a network needs
        from aegis.isolation.worker.sockets import RemoteSockets

        assert self._spec.sockets is not None
        lookups = RemoteLookups(self._descriptors[resolver], self._resolve)
        sockets = RemoteSockets(self._descriptors[self._spec.sockets], self._ask_sockets, self._notify_sockets)
        policy = self.policy
        network = Network(policy.network, policy.limits, grants.scope, begin=lookups.begin, opener=sockets)
        grants.on_close(network.close)
        return network

    def _stdio(self, scope: CallScope) -> Stdio:
        spec, limits = self._spec, self.policy.limits
        streams = self._streams(scope)
        given = spec.policy.stdio.stdin
        stdin: StandardInput = StandardInput(given if isinstance(given, bytes) else b"", scope)
        if spec.stdin:
            stdin = RemoteInput(streams, scope, terminal=spec.terminals[0])
        return Stdio(
            stdin,
            self._output(1, spec.stdout, limits.stdout, streams, scope),
            self._output(2, spec.stderr, limits.stderr, streams, scope),
        )

    def _output(
        self, number: int, mode: str, limit: int | None, streams: RemoteStreams, scope: CallScope
    ) -> StandardOutput:
        if mode == "discard":
            return StandardOutput("stdout" if number == 1 else "stderr", mode, -1, limit, scope)
        terminal = self._spec.terminals[number]
        return RemoteOutput(number, mode, limit, scope, streams, terminal=terminal)

    def _preopen(self, number: int, folder: Folder, opened: OpenDescriptors) -> Preopen:
        """Return a preopen of the guest. The session owns and closes its descriptors, not ``opened``."""
        from aegis.host.files.directory import HostDirectory
        from aegis.host.files.preopens import Preopen
        from aegis.host.files.single_file import GrantedFile, SingleFiles

        if folder.descriptor is not None:
            directory = HostDirectory(self._descriptors[folder.descriptor], writable=folder.writable, opened=opened)
            return Preopen(folder.guest, directory)
        files = {name: GrantedFile(self._descriptors[n], writable) for name, (n, writable) in folder.files.items()}
        return Preopen(folder.guest, SingleFiles(number=number, opened=opened, files=files))
