"""The session of a worker with its parent: loads the artifact, creates sandboxes, and serves messages."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from aegis.engine.call.door import MAX_KEPT_DENIALS
from aegis.engine.compile.artifact import Module
from aegis.engine.compile.code import Artifact, NativeCode
from aegis.engine.compile.config import Engine, engine_for
from aegis.engine.native.signals import leave_to_ticks
from aegis.errors import AegisError, AegisInternalError
from aegis.isolation.protocol import turn_messages
from aegis.isolation.protocol.channel import MAX_DESCRIPTORS, REGION_BYTES, Channel, ProtocolError, SharedRegion
from aegis.isolation.protocol.errors import from_plain, to_plain
from aegis.isolation.protocol.late_calls import LateCalls
from aegis.isolation.protocol.pickled import loads
from aegis.isolation.protocol.specs import ACCOUNT, SandboxSpec, unpack
from aegis.isolation.worker.backend import WorkerBackend
from aegis.isolation.worker.columns import RemoteBatch
from aegis.isolation.worker.forwarded_calls import ForwardedAnswers
from aegis.isolation.worker.host_calls import core_function
from aegis.isolation.worker.scalar_calls import ScalarExports
from aegis.isolation.worker.streams import NOTICES, RemoteStreams
from aegis.policy import Policy
from aegis.sandbox.guest_state import Globals, Memory
from aegis.sandbox.run import GuestRun
from aegis.support.lean import TYPE_CHECKING, Any, NoReturn, late
from aegis.values import CallScope, Decision, MemoryFault, Rows

if TYPE_CHECKING:
    from aegis.isolation.protocol import wit_values
    from aegis.isolation.worker import component_host_calls, late_answers, turns
    from aegis.wit import results, types
else:  # needed only for components
    wit_values = late("aegis.isolation.protocol.wit_values")
    component_host_calls = late("aegis.isolation.worker.component_host_calls")
    late_answers, turns = late("aegis.isolation.worker.late_answers"), late("aegis.isolation.worker.turns")
    results = late("aegis.wit.results")
    types = late("aegis.wit.types")

__all__ = ["Session"]

_UNUSED = ACCOUNT.pack(1 << 62, 1 << 62, *[0] * 8)
"""The account of a sandbox that does not exist yet."""


class Session:
    """Serves one sandbox after another, all of the same artifact, because the confinement cannot be changed."""

    def __init__(self, channel: Channel, spec: SandboxSpec, descriptors: list[int], known: Policy) -> None:
        self.channel, self.spec, self.descriptors = channel, spec, descriptors
        self._known = known
        self._shared = descriptors[spec.shared]
        channel.outgoing, channel.incoming = SharedRegion.pair(self._shared, REGION_BYTES, parent=False)
        self.late = LateCalls(self._shared, REGION_BYTES, self.account)
        self.signatures: dict[str, wit_values.Signature] = {}
        self.scalars = ScalarExports(self)
        self.handles: component_host_calls.WorkerHandles | None = None
        self.answers: ForwardedAnswers | None = None
        self.run: GuestRun | None = None
        self.streams: RemoteStreams | None = None
        self.answers_later: Any = None
        """The requests of a component whose answers come later."""
        self._turns: turns.WorkerTurns | None = None
        self.asked = 0
        """The number of the latest request to the parent."""
        self.denials_sent = 0
        """Denials reported during the current request of the parent."""
        self.artifact: Any = None
        self.layers: list[Any] = []
        self._ends = False
        """Whether the parent ended the sandbox and ignores further messages of it."""
        self.connection: list[int] = []
        """The descriptor of the connection for the request that comes next."""
        self.operations: dict[str, Callable[..., Any]] = {
            "call": self.call, "read": self.read, "write": self.write, "size": self.size, "get": self.get,
            "set": self.set, "drop": self.drop, "finish": self.finish, "loop": self.loop,
            "many": self.many, "own": self.own, "take": self.take, "untake": self.untake, "serve": self.serve,
            "turn": self.turn,
        }  # fmt: skip

    # -- the sandbox ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """Load the code unless it is loaded, and create the sandbox; the guest is instantiated later."""
        spec = self.spec
        imports: dict[str, dict[str, Any]] = {}
        if self.artifact is None:
            self.artifact = self._loaded()
            gc.freeze()  # the artifact lives as long as the worker; later collections need not visit it
        if spec.kind == "module":
            numbered = self._numbers()
            for module, name in spec.remote:
                imports.setdefault(module, {})[name] = self._core(numbered[module, name])
        else:
            self.handles = component_host_calls.WorkerHandles(self.artifact.world)
            self.handles.ask, self.handles.ask_later, self.handles.budget = self.ask, self.ask_later, self._budget
        self.answers = ForwardedAnswers(spec.remote, self.ask, self._numbers, self.handles) if spec.answered else None
        if self.handles is not None and self.answers is not None:
            self.handles.keep_own(lambda: self.run.door)  # type: ignore[union-attr]
        self._ends = False
        backend = WorkerBackend(
            spec, self.descriptors, self._providers, self._made_streams, self.resolve, self.ask_sockets,
            self.notify_sockets, self.set_times,
        )  # fmt: skip
        self.run = GuestRun(
            backend, imports=imports, args=spec.args, subscribers=(self.event,) if spec.observed else (),
            measured=True, denied=None if spec.observed else self.denied,
            trap_missing=spec.trap_missing, answer=self.answers,
        )  # fmt: skip
        if self.answers is not None:
            self.answers.use(self.run.door)
        if self.handles is not None:
            self.answers_later = late_answers.LateAnswers(self._notify)
            self.run.door.hears = turns.ParentMessages(self)
        assert self.channel.outgoing is not None
        self.run.door.keep = self.channel.outgoing.keep
        if spec.policy.logging.enabled:
            _forward_log(self.log)

    def _numbers(self) -> Mapping[tuple[str, str], int]:
        """Return the number of each imported function in messages, by module or interface, and name."""
        if self.handles is not None:
            return self.handles.numbers
        return {(i.module, i.name): n for n, i in enumerate(self.artifact.imports)}

    def _loaded(self) -> Any:
        """Return the artifact, made from the parent's description, with its code loaded."""
        spec = self.spec
        config, limits, shape = spec.config, spec.policy.limits, self._shape()
        engine = engine_for(config)
        if spec.kind == "module":
            module = Module(b"", shape, spec.digest, None, limits)
            module.use(config, self._code(module, engine, spec.code[0][1]))
            return module
        from aegis.component.planning.artifact import Component, ComponentCode

        component = Component(b"", shape, spec.digest, None, limits)
        loaded: dict[int, NativeCode] = {}
        parts = {
            number: loaded.get(place) or loaded.setdefault(place, self._code(component.modules[number], engine, place))
            for number, place in spec.code
        }
        component.use(config, ComponentCode(engine.pointer, parts))  # type: ignore[arg-type]
        return component

    def _shape(self) -> Any:
        shape = self.spec.shape
        if not isinstance(shape, bytes):
            # pread(2), because workers share the file description and with it the file position.
            descriptor = self.descriptors[shape]
            shape = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        return loads(shape)

    def _code(self, module: Artifact, engine: Engine, place: int) -> NativeCode:
        code = module.load_file(engine, self.descriptors[place])
        if code is None:
            raise AegisInternalError("the compiled code is for another engine configuration")
        return code

    def _providers(self, component: Any) -> component_host_calls.RemoteProviders:
        assert self.handles is not None
        spec = self.spec
        return component_host_calls.RemoteProviders(
            component, spec.remote, self.handles, trap_missing=spec.trap_missing
        )

    def _made_streams(self, scope: CallScope) -> RemoteStreams:
        self.streams = RemoteStreams(self.channel, scope, self.handle)
        return self.streams

    def _core(self, number: int) -> Callable[..., Any]:
        wanted = self.artifact.imports[number]
        return core_function(wanted, number, self.ask).call

    def cancel(self) -> None:
        """Cancel the running call; called on the main thread."""
        if self.run is not None:
            self.run.cancel()
            self.run.door.cancel()

    # -- serving -------------------------------------------------------------------------------

    def serve_all(self) -> None:
        """Serve one sandbox after another until the parent closes the channel."""
        while True:
            assert self.run is not None
            self.late.begin(self.run, endless=not self.spec.config.epochs)
            self.channel.send(["prepared"], notice=True)
            self.answer(self._begin)
            while True:
                self.scalars.serve_all()
                if not self.handle(self.channel.recv()):
                    break
            self._clear()
            message, descriptors = self.channel.recv_with(MAX_DESCRIPTORS)
            following = unpack(message[1], self._known)
            assert isinstance(following, SandboxSpec)
            self.spec, self.descriptors = following, descriptors
            try:
                self.prepare()
            except BaseException as error:
                self.refuse(error)

    def _begin(self) -> Any:
        assert self.run is not None
        with self.late:
            self.run.load(self.artifact)
        leave_to_ticks()
        return self.layers

    def refuse(self, error: BaseException) -> NoReturn:
        """Report why the sandbox cannot be created, and exit."""
        self.channel.send(["fail", to_plain(error), _UNUSED, []])
        os._exit(0)

    def _clear(self) -> None:
        """Release a sandbox that ended, and the descriptors of its grants."""
        assert self.run is not None
        self.late.end()
        self.signatures, self.scalars = {}, ScalarExports(self)
        if self.handles is not None:
            self.handles.end()
        self.run.close()
        self.run = self.handles = self.streams = self.answers = self._turns = None
        self.asked = 0
        for descriptor in self.descriptors:
            if descriptor != self._shared:
                os.close(descriptor)
        gc.collect()

    def handle(self, message: Any) -> bool:
        """Serve one message, or one call by a fixed frame; return ``False`` after the last message of a sandbox."""
        if message.__class__ is bytes:
            self.scalars.serve(message)
            return True
        if message[0] in NOTICES:
            if self.streams is not None:
                self.streams.note(message)
            return True
        if message[0] in turn_messages.NOTICES:
            self._note(message)
            return True
        if message[0] == "connect":
            self.answer(lambda: None)
            message, self.connection = self._with_connection()
        operation = self.operations[message[0]]
        self.denials_sent = 0
        self.answer(lambda: operation(*message[1:]))
        return bool(message[0] != "finish")

    def _with_connection(self) -> tuple[Any, list[int]]:
        """Return the next request with the descriptor that came with it; a notice may have arrived before it."""
        while True:
            message, descriptors = self.channel.recv_with(1)
            while message[0] in NOTICES or message[0] in turn_messages.NOTICES:
                self.handle(message)
                if not self.channel.waiting():
                    break
                message = self.channel.recv()
            else:
                return message, descriptors

    def _note(self, message: list[Any]) -> None:
        """Process a notice about operations that overlap; before the guest is instantiated, they are answers."""
        assert self.run is not None
        if self.run.store is None:
            self.answers_later.give(*message[1:])
        else:
            if self._turns is None:
                self._turns = turns.WorkerTurns(self)
            self._turns.note(message)

    def turn(self) -> None:
        """Run the calls and reads that the parent has started, until none is left."""
        if self._turns is not None:
            with self.late:
                self._turns.run()

    def answer(self, operation: Callable[[], Any]) -> None:
        """Call ``operation``, and answer a request with its result or error."""
        try:
            answer = ["done", operation()]
        except _ArgumentMismatch:
            answer = ["rejected", None]
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
        """Return the encoded counters of the sandbox."""
        return ACCOUNT.pack(*self.counter()())

    def counter(self) -> Callable[[], tuple[int | float, ...]]:
        """Return a function that returns the counters of the sandbox; it is valid for the lifetime of the store."""
        run = self.run
        assert run is not None
        door = run.door
        store: Any = run.store
        fuel = memory = _zero
        if store is not None and not store.closed:
            memory = store.memory_reader()
            if store.fuel is not None:
                fuel = store.fuel_left

        def counters() -> tuple[int | float, ...]:
            stdio = None if run.grants is None else run.grants.acquired_stdio
            out, err = (0, 0) if stdio is None else (stdio.written(1), stdio.written(2))
            return (
                door.calls_left, door.bytes_left, door.bytes_in, door.bytes_out, door.denials, door.host_seconds,
                fuel(), memory(), out, err,
            )  # fmt: skip

        return counters

    # -- requests of the parent ------------------------------------------------------------------

    def call(self, name: str, values: list[Any], number: int | None = None) -> Any:
        """Call an export. Later the parent may call it by ``number``, with fixed frames."""
        if number is not None:
            self.scalars.learn(number, name)
        with self.late:
            return self._called(name, values)

    def _called(self, name: str, values: list[Any]) -> Any:
        assert self.run is not None
        if self.handles is None:
            return self.run.call(name, *values)
        signature = self.signature(name)
        try:
            arguments = signature.unpack(values)
        except ProtocolError:
            raise _ArgumentMismatch from None
        call = partial(self.run.call, name, *arguments)
        return signature.pack_result(
            results.attempt(call) if isinstance(signature.function.result, types.Result) else call()
        )

    def serve(self, method: str, scheme: str | None, authority: str | None, target: str, fields: list[Any]) -> bytes:
        """Serve a request by the connection whose descriptor came with the message."""
        from aegis.isolation.worker.serving import serve

        assert self.run is not None
        with self.late:
            return serve(self.run, (method, scheme, authority, target, fields), self.connection.pop())

    def own(self) -> Any:
        """Run the worker's own host function for the innermost call that waits for the parent's answer."""
        assert self.answers is not None
        return self.answers.own()

    def loop(self, name: str) -> None:
        """Compile the loop that calls an export over columns."""
        self._loop_of(name)

    def _loop_of(self, name: str) -> Any:
        assert self.run is not None
        store: Any = self.run.live()
        return store.plan.entry(Rows(name))

    def many(self, name: str, rows: int) -> None:
        """Call an export for rows that the parent holds."""
        assert self.run is not None
        function: Any = Rows(name)
        batch = RemoteBatch(rows, self._loop_of(name).shape, self.ask_rows, self.send_rows)
        try:
            with self.late:
                self.run.call(function, batch)
        finally:
            batch.finish()

    def signature(self, name: str) -> wit_values.Signature:
        made = self.signatures.get(name)
        if made is None:
            assert self.handles is not None
            assert self.run is not None
            assert self.run.component is not None
            function = self.run.component.function(name)
            made = self.signatures[name] = wit_values.Signature(function, self.handles, self.run.door)
        return made

    def signature_of(self, name: str) -> tuple[Sequence[Any], Sequence[Any], Callable[[Any], Any]]:
        """Return the types of an export's parameters and results, and the function that encodes its result."""
        if self.handles is None:
            of = self.artifact.signature(name)
            return of.params, of.results, lambda value: value
        signature = self.signature(name)
        function = signature.function
        results = [] if function.result is None else [function.result]
        return [of for _, of in function.params], results, signature.pack_result

    def _memory(self, charged: bool) -> Any:
        assert self.run is not None
        if charged:
            return self.run.memory
        return Memory(self.run)

    def read(self, charged: bool, offset: int, length: int) -> Any:
        return self._memory(charged).read(offset, length)

    def write(self, charged: bool, offset: int, data: Any) -> None:
        self._memory(charged).write(offset, data)

    def size(self, charged: bool) -> Any:
        memory = self._memory(charged)
        return memory.size() if charged else memory.size

    def get(self, name: str) -> Any:
        assert self.run is not None
        return Globals(self.run)[name]

    def set(self, name: str, value: Any) -> None:
        assert self.run is not None
        Globals(self.run)[name] = value

    def drop(self, number: int) -> None:
        assert self.handles is not None
        handle = self.handles.kept.get(number)
        if handle is not None:
            with self.late:
                handle.drop()
            self.handles.kept.pop(number, None)

    def _budget(self) -> Any:
        assert self.run is not None
        return self.run.door

    def take(self, number: int, count: int) -> Any:
        """Read elements of a guest's stream for the application."""
        assert self.handles is not None
        with self.late:
            return self.handles.ends.take(number, count)

    def untake(self, number: int) -> None:
        """Drop a guest's stream that the application reads no more."""
        assert self.handles is not None
        self.handles.ends.drop(number)

    def finish(self) -> None:
        """End the sandbox."""
        self._ends = True

    # -- requests to the parent ------------------------------------------------------------------

    def ask(self, number: int, values: list[Any]) -> Any:
        """Call a host function in the parent and return its result; serve nested calls of the parent meanwhile."""
        self.asked += 1
        request = self.asked
        self.channel.send(["host", request, number, values])
        return self._wait_for_answer(request)

    def ask_later(self, number: int, values: list[Any]) -> Any:
        """Call a host function in the parent; return its result, or the answer that comes later."""
        self.asked += 1
        self.channel.send(["later", self.asked, number, values])
        return self._wait_for_answer(self.asked)

    def _notify(self, message: list[Any]) -> None:
        if not self._ends:
            self.channel.send(message, notice=True)

    def _wait_for_answer(self, request: int) -> Any:
        """Return the answer to the request with this number, or the answer that comes later.

        Serve nested requests of the parent until it arrives.
        """
        assert self.run is not None
        channel, door = self.channel, self.run.door
        while True:
            if not channel.waiting() and not door.wait(read=(channel.fileno(),))[0]:
                continue  # woken for another reason
            message = channel.recv()
            if message[0] == "pending" and message[1] == request:
                return self.answers_later.begin(request)
            if message[0] != "answer":
                self.handle(message)
            elif message[1] == request:
                if message[2]:
                    raise from_plain(message[3])
                return message[3]

    def set_times(self, name: str | None, times: tuple[int, int]) -> int | None:
        """Request that the parent set the times of a file; return ``None``, or the error number of a failure."""
        self.asked += 1
        self.channel.send(["times", self.asked, name, *times])
        failed: int | None = self._wait_for_answer(self.asked)
        return failed

    def ask_sockets(self, verb: str, *words: Any) -> Any:
        """Request a socket operation; return the parent's answer."""
        self.asked += 1
        self.channel.send(["socket", self.asked, verb, *words])
        return self._wait_for_answer(self.asked)

    def notify_sockets(self, verb: str, *words: Any) -> None:
        """Notify the parent of a closed socket, unless the sandbox is ending: the parent then closes all sockets."""
        if not self._ends:
            self.channel.send(["socket", None, verb, *words], notice=True)

    def ask_rows(self, done: int, results: bytes, wanted: int) -> Any:
        """Send the pending results of a call over columns; return the arguments of the next rows."""
        self.asked += 1
        self.channel.send(["rows", self.asked, done, results, wanted])
        return self._wait_for_answer(self.asked)

    def send_rows(self, done: int, results: bytes) -> None:
        """Send the last results of a call over columns."""
        self.channel.send(["rows", None, done, results, 0], notice=True)

    def resolve(self, number: int, name: str) -> None:
        """Request a look-up without waiting for its answer."""
        self.channel.send(["resolve", number, name], notice=True)

    def event(self, event: Any) -> None:
        """Report an event of this process to the parent, which emits all others itself."""
        name = type(event).__name__
        if name == "HostFunctionCalled":
            self.channel.send(["called", event.module, event.name, event.seconds, event.error], notice=True)
        elif name == "CapabilityChecked":
            self.decided(event.capability, event.action, event.target, event.allowed, event.rule, event.remedy)

    def denied(self, decision: Decision) -> None:
        """Report a denial: every one if the parent has an observer, otherwise as many as an outcome keeps."""
        self.denials_sent += 1
        if self.spec.denials or self.denials_sent <= MAX_KEPT_DENIALS:
            self.decided(*decision[:5], decision.wanted)

    def decided(self, *fields: Any) -> None:
        self.channel.send(["decided", *fields], notice=True)

    def log(self, level: str, text: str) -> None:
        self.channel.send(["log", level, text], notice=True)


def _zero() -> int:
    return 0


class _ArgumentMismatch(Exception):
    """The arguments do not have the function's types; the parent raises the detailed error."""


def _forward_log(send: Callable[[str, str], None]) -> None:
    import logging

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with suppress(ProtocolError):
                send(getattr(record, "guest_level", "info"), record.getMessage())

    logger = logging.getLogger("aegis.guest")
    logger.handlers = [Forward()]
    logger.propagate = False
    logger.setLevel(1)
