"""A worker process: it is told what to run, closes every door behind itself, and serves its parent.

Its main thread only listens for a cancellation, and for the parent's end; the guest runs on a thread of ours,
which is the one that talks.
"""

from __future__ import annotations

import _socket
import gc
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from aegis.engine.call.door import MOST_REFUSED
from aegis.engine.compile.artifact import Module
from aegis.engine.compile.code import Artifact, NativeCode
from aegis.engine.compile.config import Engine, engine_for
from aegis.engine.threads.guest_thread import run_on_guest_thread
from aegis.engine.threads.ticker import ticker
from aegis.errors import AegisError, AegisInternalError
from aegis.isolation.confine import Begun
from aegis.isolation.parent.pool import BRIEF_SIZE_BYTES, REGION
from aegis.isolation.protocol.channel import MAX_DESCRIPTORS, Broken, Channel, Region
from aegis.isolation.protocol.columns import RemoteBatch
from aegis.isolation.protocol.errors import from_plain, to_plain
from aegis.isolation.protocol.late_calls import LateCalls
from aegis.isolation.protocol.pickled import loads
from aegis.isolation.protocol.setup import ACCOUNT, Brief, Compile, Setup, unpack
from aegis.isolation.worker.backend import WorkerTier
from aegis.isolation.worker.confinement import begin_closing, close_doors, close_for_compiling, kept_imports
from aegis.isolation.worker.host_calls import core_function
from aegis.isolation.worker.streams import NOTICES, RemoteStreams
from aegis.policy import Policy
from aegis.sandbox.sandbox import Sandbox
from aegis.support.lean import TYPE_CHECKING, Any, NoReturn, late
from aegis.values import CallScope, Decision, MemoryFault, Rows

if TYPE_CHECKING:
    from aegis.isolation.protocol import wit_values
    from aegis.isolation.worker import component_host_calls
    from aegis.isolation.worker.warmup import Script
    from aegis.wit import results, types
else:  # of components alone
    wit_values = late("aegis.isolation.protocol.wit_values")
    component_host_calls = late("aegis.isolation.worker.component_host_calls")
    results = late("aegis.wit.results")
    types = late("aegis.wit.types")

__all__ = ["Session", "main"]

_TRUSTED = 1 << 62
"""What a message of the parent may take: it counted what it sends."""
_UNUSED = ACCOUNT.pack(1 << 62, 1 << 62, *[0] * 8)
"""The account of a sandbox that there is not."""


def main(conversation: int, cancel: int, said: int, brief: bytes | None, script: Script | None) -> NoReturn:
    """Serve on the socket ``conversation``; ``cancel`` is listened to, and ``said`` is standard error from now on.

    Until there is something to serve, get ready for it. Without a ``brief`` it comes first on the
    socket, after its size.
    """
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    os.close(nothing)
    os.dup2(said, 2)
    os.close(said)
    end = _socket.socket(fileno=conversation)
    brief = _brief(end) if brief is None else brief
    if not brief:  # nothing is to be run after all
        os._exit(0)
    told: Brief = loads(brief)
    begun = begin_closing(told)
    if script is not None:
        if not _awaited(end):
            from aegis.isolation.worker.warmup import rehearse

            rehearse(script)
        script.close()
    channel = Channel(end, views=True, patient=True)
    channel.budget = _TRUSTED
    try:
        message, descriptors = channel.recv_with(MAX_DESCRIPTORS)
    except Broken:
        os._exit(0)
    wanted = unpack(message[1], told.known)
    if isinstance(wanted, Compile):
        _compile(channel, wanted, descriptors, begun)
    _run(Session(channel, wanted, descriptors, told.known), begun, cancel)


def _brief(end: _socket.socket) -> bytes:
    """Return the brief that comes first: that alone, for the message behind it has descriptors."""
    size = int.from_bytes(end.recv(BRIEF_SIZE_BYTES, _socket.MSG_WAITALL), "little")
    return end.recv(size, _socket.MSG_WAITALL) if size else b""


def _awaited(end: _socket.socket) -> bool:
    """Tell whether somebody waits for this worker already."""
    try:
        end.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


def _compile(channel: Channel, wanted: Compile, descriptors: list[int], begun: Begun) -> NoReturn:
    """Compile one artifact and end; its world is told with the answer."""
    from aegis.isolation.parent.compiling import compile_here

    try:
        layers = close_for_compiling(wanted, begun)
        channel.send(["done", compile_here(wanted, descriptors), layers])
    except BaseException as error:
        channel.send(["fail", to_plain(error), []])
    os._exit(0)


def _run(session: Session, begun: Begun, cancel: int) -> NoReturn:
    try:
        if session.setup.kind == "component":
            for finder in kept_imports:
                finder.add_components()
        for name in (*session.setup.modules, *_needed(session.setup)):
            __import__(name)
        session.prepare()
        session.layers = close_doors(session.setup, session.descriptors, begun)
    except BaseException as error:
        session.refuse(error)
    ticker.at_tick.append(session.late.look)
    ended = run_on_guest_thread(session.serve_all, lambda job: os._exit(0 if job.error is None else 71))
    listener = _socket.socket(fileno=cancel)
    while listener.recv(1):
        session.cancel()
    del ended
    os._exit(0)


def _needed(setup: Setup) -> list[str]:
    """Return the modules that what is granted needs, and that are imported while they still can be."""
    found = []
    if setup.folders:
        found += ["aegis.host.files.preopens", "aegis.host.files.single_file"]
    if setup.resolver is not None:
        found += ["aegis.host.net.network", "aegis.isolation.worker.sockets"]
    if setup.observed:
        found.append("aegis.observe.events")
    if setup.policy.logging.enabled:
        found.append("logging")
    return found


class Session:
    """A sandbox that serves a parent, and after it the next of the same line, behind doors that stay as they are."""

    def __init__(self, channel: Channel, setup: Setup, descriptors: list[int], known: Policy) -> None:
        self.channel, self.setup, self.descriptors = channel, setup, descriptors
        self._known = known
        self._shared = descriptors[setup.shared]
        channel.outgoing, channel.incoming = Region.pair(self._shared, REGION, parent=False)
        self.late = LateCalls(self._shared, REGION, self.account)
        self.signatures: dict[str, wit_values.Signature] = {}
        self.handles: component_host_calls.WorkerHandles | None = None
        self.sandbox: Sandbox | None = None
        self.streams: RemoteStreams | None = None
        self.asked = self.told = 0
        self.artifact: Any = None
        self.layers: list[Any] = []
        self._ends = False
        """Whether the parent ended the sandbox, and listens to nothing more of it."""
        self.operations: dict[str, Callable[..., Any]] = {
            "call": self.call, "read": self.read, "write": self.write, "size": self.size, "get": self.get,
            "set": self.set, "drop": self.drop, "finish": self.finish, "loop": self.loop,
            "many": self.many,
        }  # fmt: skip

    # -- the sandbox ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """Load the code, if it is not there yet, and make the sandbox, empty yet."""
        setup = self.setup
        imports: dict[str, dict[str, Any]] = {}
        if self.artifact is None:
            self.artifact = self._loaded()
            gc.freeze()  # what lasts as long as the worker: a sandbox is collected with the next one
        if setup.kind == "module":
            numbered = {(i.module, i.name): n for n, i in enumerate(self.artifact.imports)}
            for module, name in setup.remote:
                imports.setdefault(module, {})[name] = self._core(numbered[module, name])
        else:
            self.handles = component_host_calls.WorkerHandles(self.artifact.world)
            self.handles.ask = self.ask
        self._ends = False
        tier = WorkerTier(
            setup, self.descriptors, self._providers, self._made_streams, self.resolve, self.ask_sockets,
            self.tell_sockets, self.set_times,
        )  # fmt: skip
        self.sandbox = Sandbox(
            tier, imports=imports, args=setup.args, subscribers=(self.event,) if setup.observed else (),
            measured=True, denied=None if setup.observed else self.denied,
            trap_missing=setup.trap_missing,
        )  # fmt: skip
        assert self.channel.outgoing is not None
        self.sandbox._door.keep = self.channel.outgoing.keep
        if setup.policy.logging.enabled:
            _forward_log(self.log)

    def _loaded(self) -> Any:
        """Return the artifact, with its code, of what the parent knows of it."""
        setup = self.setup
        config, limits, shape = setup.config, setup.policy.limits, self._shape()
        engine = engine_for(config)
        if setup.kind == "module":
            module = Module(b"", shape, setup.digest, None, limits)
            module._codes[config] = self._code(module, engine, setup.code[0][1])
            return module
        from aegis.component.planning.artifact import Component, ComponentCode

        component = Component(b"", shape, setup.digest, None, limits)
        loaded: dict[int, NativeCode] = {}
        parts = {
            number: loaded.get(place) or loaded.setdefault(place, self._code(component.modules[number], engine, place))
            for number, place in setup.code
        }
        component._codes[config] = ComponentCode(engine.pointer, parts)  # type: ignore[assignment]
        return component

    def _shape(self) -> Any:
        shape = self.setup.shape
        if not isinstance(shape, bytes):
            # The position in the file is every worker's, so it is read without one.
            descriptor = self.descriptors[shape]
            shape = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        return loads(shape)

    def _code(self, module: Artifact, engine: Engine, place: int) -> NativeCode:
        code = module._load_file(engine, self.descriptors[place])
        if code is None:
            raise AegisInternalError("the compiled code is of another engine")
        return code

    def _providers(self, component: Any) -> component_host_calls.RemoteProviders:
        assert self.handles is not None
        setup = self.setup
        return component_host_calls.RemoteProviders(
            component, setup.remote, self.handles, trap_missing=setup.trap_missing
        )

    def _made_streams(self, scope: CallScope) -> RemoteStreams:
        self.streams = RemoteStreams(self.channel, scope, self.handle)
        return self.streams

    def _core(self, number: int) -> Callable[..., Any]:
        wanted = self.artifact.imports[number]
        return core_function(wanted, number, self.ask).call

    def cancel(self) -> None:
        """End the call under way; from the main thread."""
        if self.sandbox is not None:
            self.sandbox.cancel()
            self.sandbox._door.cancel()

    # -- serving -------------------------------------------------------------------------------

    def serve_all(self) -> None:
        """Serve one sandbox after the other, as long as the parent has one."""
        while True:
            assert self.sandbox is not None
            self.late.begin(self.sandbox, endless=not self.setup.config.epochs)
            self.channel.send(["settled"], notice=True)
            self._answer(self._begin)
            while self.handle(self.channel.recv()):
                pass
            self._clear()
            message, descriptors = self.channel.recv_with(MAX_DESCRIPTORS)
            following = unpack(message[1], self._known)
            assert isinstance(following, Setup)
            self.setup, self.descriptors = following, descriptors
            try:
                self.prepare()
            except BaseException as error:
                self.refuse(error)

    def _begin(self) -> Any:
        assert self.sandbox is not None
        with self.late:
            self.sandbox.load(self.artifact)
        return self.layers

    def refuse(self, error: BaseException) -> NoReturn:
        """Tell why there is no sandbox, and end."""
        self.channel.send(["fail", to_plain(error), _UNUSED, []])
        os._exit(0)

    def _clear(self) -> None:
        """Let go of a sandbox that ended, and of what it was given."""
        assert self.sandbox is not None
        self.late.end()
        self.sandbox.close()
        self.sandbox = self.handles = self.streams = None
        self.signatures = {}
        self.asked = 0
        for descriptor in self.descriptors:
            if descriptor != self._shared:
                os.close(descriptor)
        gc.collect()

    def handle(self, message: list[Any]) -> bool:
        """Serve one message; tell whether there may be another."""
        if message[0] in NOTICES:
            if self.streams is not None:
                self.streams.note(message)
            return True
        operation = self.operations[message[0]]
        self.told = 0
        self._answer(lambda: operation(*message[1:]))
        return bool(message[0] != "finish")

    def _answer(self, operation: Callable[[], Any]) -> None:
        try:
            answer = ["done", operation()]
        except _Unfit:
            answer = ["unfit", None]
        except MemoryFault as fault:
            answer = ["fault", str(fault)]
        except ValueError as fault:
            answer = ["fail", to_plain(fault)] if isinstance(fault, AegisError) else ["fault", str(fault)]
        except BaseException as error:
            answer = ["fail", to_plain(error)]
        taken = [] if self.handles is None else self.handles.consumed()
        if self.streams is not None:
            self.streams.forget()
        self.channel.send([*answer, self.account(), taken])

    def account(self) -> bytes:
        """Return the counters of the sandbox, in the order that the parent knows."""
        sandbox = self.sandbox
        assert sandbox is not None
        door, store, grants = sandbox._door, sandbox._store, sandbox._grants
        fuel = memory = out = err = 0
        if store is not None and not store.closed:
            fuel, memory = store.fuel_left(), store.memory_size()
        stdio = None if grants is None else grants.acquired_stdio
        if stdio is not None:
            out, err = stdio.written(1), stdio.written(2)
        return ACCOUNT.pack(
            door.calls_left, door.bytes_left, door.bytes_in, door.bytes_out, door.denials, door.host_seconds, fuel,
            memory, out, err,
        )  # fmt: skip

    # -- what is asked -------------------------------------------------------------------------

    def call(self, name: str, values: list[Any]) -> Any:
        with self.late:
            return self._called(name, values)

    def _called(self, name: str, values: list[Any]) -> Any:
        assert self.sandbox is not None
        if self.handles is None:
            return self.sandbox.call(name, *values)
        signature = self._signature(name)
        try:
            arguments = signature.unpack(values)
        except Broken:
            raise _Unfit from None
        call = partial(self.sandbox.call, name, *arguments)
        return signature.pack_result(
            results.attempt(call) if isinstance(signature.function.result, types.Result) else call()
        )

    def loop(self, name: str) -> None:
        """Compile what calls an export over columns."""
        self._loop_of(name)

    def _loop_of(self, name: str) -> Any:
        assert self.sandbox is not None
        store: Any = self.sandbox._live()
        return store.plan.entry(Rows(name))

    def many(self, name: str, rows: int) -> None:
        """Call an export for the rows that the parent has."""
        assert self.sandbox is not None
        function: Any = Rows(name)
        batch = RemoteBatch(rows, self._loop_of(name).shape, self.ask_rows, self.tell_rows)
        try:
            with self.late:
                self.sandbox.call(function, batch)
        finally:
            batch.finish()

    def _signature(self, name: str) -> wit_values.Signature:
        made = self.signatures.get(name)
        if made is None:
            assert self.handles is not None
            assert self.sandbox is not None
            assert self.sandbox._guest is not None
            function = self.sandbox._guest.function(name)
            made = self.signatures[name] = wit_values.Signature(function, self.handles, self.sandbox._door)
        return made

    def _memory(self, charged: bool) -> Any:
        assert self.sandbox is not None
        if charged:
            return self.sandbox._memory
        return self.sandbox.memory

    def read(self, charged: bool, offset: int, length: int) -> Any:
        return self._memory(charged).read(offset, length)

    def write(self, charged: bool, offset: int, data: Any) -> None:
        self._memory(charged).write(offset, data)

    def size(self, charged: bool) -> Any:
        memory = self._memory(charged)
        return memory.size() if charged else memory.size

    def get(self, name: str) -> Any:
        assert self.sandbox is not None
        return self.sandbox.globals[name]

    def set(self, name: str, value: Any) -> None:
        assert self.sandbox is not None
        self.sandbox.globals[name] = value

    def drop(self, number: int) -> None:
        assert self.handles is not None
        handle = self.handles.kept.get(number)
        if handle is not None:
            with self.late:
                handle.drop()
            self.handles.kept.pop(number, None)

    def finish(self) -> None:
        """End the sandbox."""
        self._ends = True

    # -- what is asked of the parent -------------------------------------------------------------

    def ask(self, number: int, values: list[Any]) -> Any:
        """Have the parent call a host function; serve what it asks meanwhile."""
        self.asked += 1
        mine = self.asked
        self.channel.send(["host", mine, number, values])
        return self._wait_for_answer(mine)

    def _wait_for_answer(self, mine: int) -> Any:
        """Return the answer to the request ``mine``, and serve what the parent asks until it comes."""
        assert self.sandbox is not None
        channel, door = self.channel, self.sandbox._door
        while True:
            if not channel.waiting():
                door.wait(read=(channel.fileno(),))
            message = channel.recv()
            if message[0] != "answer":
                self.handle(message)
            elif message[1] == mine:
                if message[2]:
                    raise from_plain(message[3])
                return message[3]

    def set_times(self, name: str | None, times: tuple[int, int]) -> int | None:
        """Have the parent set times of a file; return the error number of a failure."""
        self.asked += 1
        self.channel.send(["times", self.asked, name, *times])
        failed: int | None = self._wait_for_answer(self.asked)
        return failed

    def ask_sockets(self, verb: str, *words: Any) -> Any:
        """Have the parent do something with a socket; return its answer."""
        self.asked += 1
        self.channel.send(["socket", self.asked, verb, *words])
        return self._wait_for_answer(self.asked)

    def tell_sockets(self, verb: str, *words: Any) -> None:
        """Tell the parent what became of a socket. With the sandbox it closes them all by itself."""
        if not self._ends:
            self.channel.send(["socket", None, verb, *words], notice=True)

    def ask_rows(self, done: int, results: bytes, wanted: int) -> Any:
        """Tell the results so far of a call over columns; return the arguments of the next rows."""
        self.asked += 1
        self.channel.send(["rows", self.asked, done, results, wanted])
        return self._wait_for_answer(self.asked)

    def tell_rows(self, done: int, results: bytes) -> None:
        """Tell the last results of a call over columns."""
        self.channel.send(["rows", None, done, results, 0], notice=True)

    def resolve(self, number: int, name: str) -> None:
        """Have the parent look a name up, and do not wait for the answer."""
        self.channel.send(["resolve", number, name], notice=True)

    def event(self, event: Any) -> None:
        """Tell the parent of what happened in here; it tells of the rest itself."""
        name = type(event).__name__
        if name == "HostFunctionCalled":
            self.channel.send(["called", event.module, event.name, event.seconds, event.error], notice=True)
        elif name == "CapabilityChecked":
            self.decided(event.capability, event.action, event.target, event.allowed, event.rule, event.remedy)

    def denied(self, decision: Decision) -> None:
        """Tell of a denial: of all if somebody hears of them, else of as many as an outcome keeps."""
        self.told += 1
        if self.setup.denials or self.told <= MOST_REFUSED:
            self.decided(*decision)

    def decided(self, *fields: Any) -> None:
        self.channel.send(["decided", *fields], notice=True)

    def log(self, level: str, text: str) -> None:
        self.channel.send(["log", level, text], notice=True)


class _Unfit(Exception):
    """The arguments are not of the function's types; the parent knows how to say so."""


def _forward_log(tell: Callable[[str, str], None]) -> None:
    import logging

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with suppress(Broken):
                tell(getattr(record, "guest_level", "info"), record.getMessage())

    logger = logging.getLogger("aegis.guest")
    logger.handlers = [Forward()]
    logger.propagate = False
    logger.setLevel(1)
