"""The canonical built-ins of asynchronous components (CanonicalABI.md, "Canonical Definitions").

Each function here returns the body of a trampoline. The types of the core values are those of
:mod:`aegis.component.planning.builtins`.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_char
from struct import Struct
from typing import Any

from aegis.component.conversion.layout import MAX_FLAT_PARAMS, flat
from aegis.component.planning.program import AsyncFunction
from aegis.component.planning.type_keys import shape_of
from aegis.component.tasks.buffers import GuestReadBuffer, GuestWriteBuffer
from aegis.component.tasks.convert import elements
from aegis.component.tasks.copies import CopyEnd, CopyResult, CopyState, SharedFuture, SharedStream
from aegis.component.tasks.subtask import STATE_BITS, Subtask
from aegis.component.tasks.waitables import Event, EventCode, Waitable, WaitableSet
from aegis.component.trampoline import secured_body
from aegis.component.traps import cannot_leave, trap
from aegis.wit.types import Future, Stream

__all__ = ["builtin_body"]

Body = Callable[[Any, int], None]
_BLOCKED = 0xFFFF_FFFF
_MAX_BACKPRESSURE_CALLS = 1 << 16
_one, _two, _three = (Struct("<" + "12x".join("I" * n)).unpack_from for n in (1, 2, 3))
_put, _put_pair, _put_event = Struct("<I").pack_into, Struct("<II").pack_into, Struct("<II").pack_into


def _frame(address: int, words: int) -> Any:
    return (c_char * (16 * words - 12)).from_address(address)


def _instance(state: Any, number: int) -> Any:
    """Return a component instance; trap unless it may call out."""
    instance = state.handles.instances[number]
    if not instance.may_leave:
        raise cannot_leave()
    return instance


def builtin_body(function: AsyncFunction, plan: Any) -> Body:
    """Return the body of the trampoline for a built-in."""
    family, _, operation = function.name.partition(".")
    if family in ("stream", "future"):
        return secured_body(_END_FUNCTIONS[operation](function, plan), function.name)
    body = _FUNCTIONS[function.name](function, plan)
    return secured_body(body, function.name) if function.name in _WAITING else body


# -- tasks -----------------------------------------------------------------------------------------


def _task_return(function: AsyncFunction, plan: Any) -> Body:
    count = 0 if function.type is None else len(flat(function.type))
    size = max(1, 1 if count > MAX_FLAT_PARAMS else count)
    shape = None if function.type is None else shape_of(function.type)
    options = function.options
    assert options is not None

    def body(state: Any, address: int) -> None:
        _instance(state, function.instance)
        task = state.tasks.current
        if task is None or not task.callee.lifted.options.is_async:
            raise trap("task.return was called outside of a function that is lifted as async")
        lifted = task.callee.lifted
        of = lifted.type.result
        if shape != (None if of is None else shape_of(of)):
            raise trap("task.return was called with another type than that of the task's function")
        if options.encoding != lifted.options.encoding or options.memory not in (None, lifted.options.memory):
            raise trap("task.return was called with other canonical options than those of the task's function")
        unpack, lift = task.callee.plan.result
        values = lift(task.callee.cx, unpack((c_char * (16 * size)).from_address(address)))
        task.resolve(values[0] if values else None)

    return body


def _task_cancel(function: AsyncFunction, plan: Any) -> Body:
    def body(state: Any, address: int) -> None:
        _instance(state, function.instance)
        task = state.tasks.current
        if task is None or not task.callee.lifted.options.is_async:
            raise trap("task.cancel was called outside of a function that is lifted as async")
        task.cancel()

    return body


def _context_get(function: AsyncFunction, plan: Any) -> Body:
    def body(state: Any, address: int) -> None:
        _put(_frame(address, 1), 0, state.tasks.storage()[function.slot])

    return body


def _context_set(function: AsyncFunction, plan: Any) -> Body:
    def body(state: Any, address: int) -> None:
        state.tasks.storage()[function.slot] = _one(_frame(address, 1))[0]

    return body


def _yield(function: AsyncFunction, plan: Any) -> Body:
    def body(state: Any, address: int) -> None:
        _instance(state, function.instance)
        _put(_frame(address, 1), 0, state.tasks.pause(cancellable=function.flag))

    return body


def _backpressure(function: AsyncFunction, plan: Any) -> Body:
    step = 1 if function.name.endswith("inc") else -1

    def body(state: Any, address: int) -> None:
        instance = state.handles.instances[function.instance]
        instance.backpressure += step
        if not 0 <= instance.backpressure < _MAX_BACKPRESSURE_CALLS:
            raise trap("backpressure was changed beyond its range")
        if not instance.backpressure:
            instance.admit()

    return body


# -- subtasks --------------------------------------------------------------------------------------


def _subtask_cancel(function: AsyncFunction, plan: Any) -> Body:
    def body(state: Any, address: int) -> None:
        instance, frame = _instance(state, function.instance), _frame(address, 1)
        subtask = instance.get_as(_one(frame)[0], Subtask)
        if subtask.lenders is None:
            raise trap("a subtask was cancelled after its end was delivered")
        if subtask.cancel_requested:
            raise trap("a subtask was cancelled twice")
        if subtask.set is not None and not function.flag:
            raise trap("a subtask in a waitable set was cancelled synchronously")
        if not subtask.resolved():
            subtask.cancel_requested = True
            assert subtask.on_cancel is not None
            tasks = state.tasks
            before = tasks.current
            tasks.callers.append(lambda: function.flag or subtask.resolved())
            subtask.on_cancel()
            tasks.callers.pop()
            tasks.current = before
            if not subtask.resolved():
                if function.flag:
                    _put(frame, 0, _BLOCKED)
                    return
                _wait_for(state, subtask)
        subtask.take_event()
        _put(frame, 0, subtask.state)

    return body


def _wait_for(state: Any, waitable: Waitable) -> None:
    waitable.sync_waiter = True
    state.tasks.block(lambda: waitable.pending is not None)
    waitable.sync_waiter = False


def _drop(kind: type[Any]) -> Callable[[AsyncFunction, Any], Body]:
    def make(function: AsyncFunction, plan: Any) -> Body:
        def body(state: Any, address: int) -> None:
            instance = _instance(state, function.instance)
            (index,) = _one(_frame(address, 1))
            item = instance.get_as(index, kind)
            item.close()
            state.handles.leave(instance, index)

        return body

    return make


# -- waitable sets ---------------------------------------------------------------------------------


def _set_new(function: AsyncFunction, plan: Any) -> Body:
    def body(state: Any, address: int) -> None:
        instance = _instance(state, function.instance)
        _put(_frame(address, 1), 0, state.handles.enter(instance, WaitableSet()))

    return body


def _set_wait(function: AsyncFunction, plan: Any) -> Body:
    waits = function.name.endswith("wait")
    memory = function.memory
    assert memory is not None

    def body(state: Any, address: int) -> None:
        instance, frame = _instance(state, function.instance), _frame(address, 2)
        index, at = _two(frame)
        found: WaitableSet = instance.get_as(index, WaitableSet)
        tasks = state.tasks
        event: Event = (EventCode.NONE, 0, 0)
        if waits:
            found.num_waiting += 1
            cancelled = tasks.block(found.has_event, cancellable=function.flag)
            found.num_waiting -= 1
            event = (EventCode.TASK_CANCELLED, 0, 0) if cancelled else found.take_event()
        elif tasks.current is not None and tasks.current.deliver_cancel(function.flag):
            event = (EventCode.TASK_CANCELLED, 0, 0)
        elif found.has_event():
            event = found.take_event()
        if at & 3:
            raise trap("pointer is not aligned")
        _put_event(state.memory(memory).need(at + 8), at, *event[1:])
        _put(frame, 0, event[0])

    return body


def _join(function: AsyncFunction, plan: Any) -> Body:
    def body(state: Any, address: int) -> None:
        instance = _instance(state, function.instance)
        index, target = _two(_frame(address, 2))
        waitable = instance.get_as(index, Waitable)
        if waitable.sync_waiter:
            raise trap("a waitable joined a set during a synchronous wait for it")
        waitable.join(instance.get_as(target, WaitableSet) if target else None)

    return body


# -- streams and futures ---------------------------------------------------------------------------


def _new(function: AsyncFunction, plan: Any) -> Body:
    of = function.type
    assert isinstance(of, (Stream, Future))
    shape, plain = shape_of(of), is_plain(of)
    shared = SharedStream if isinstance(of, Stream) else SharedFuture

    def body(state: Any, address: int) -> None:
        instance, handles = _instance(state, function.instance), state.handles
        made = shared(shape, plain)
        read = handles.enter(instance, CopyEnd(made, True))
        write = handles.enter(instance, CopyEnd(made, False))
        _put_pair((c_char * 8).from_address(address), 0, read, write)

    return body


def is_plain(of: Stream | Future) -> bool:
    """Return whether the elements are numbers or have no value, so that one instance may read what it wrote."""
    return of.element is None or (isinstance(of.element, str) and of.element not in ("bool", "char", "string"))


def _copy(function: AsyncFunction, plan: Any) -> Body:
    """``stream.read``, ``stream.write``, ``future.read`` and ``future.write``."""
    of, options, readable = function.type, function.options, function.name.endswith("read")
    assert isinstance(of, (Stream, Future))
    assert options is not None
    future, shape = isinstance(of, Future), shape_of(of)
    code = EventCode[f"{'FUTURE' if future else 'STREAM'}_{'READ' if readable else 'WRITE'}"]
    converter = elements(of.element, options.encoding, plan.own_numbers(of), raw=True)
    context = plan.context(function.instance, options, raw=True)
    outside = plan.context(function.instance, options, raw=False)
    make = GuestWriteBuffer if readable else GuestReadBuffer

    def body(state: Any, address: int) -> None:
        instance = _instance(state, function.instance)
        if future:
            frame = _frame(address, 2)
            (index, at), length = _two(frame), 1
        else:
            frame = _frame(address, 3)
            index, at, length = _three(frame)
        end = _end(instance, index, readable, shape)
        if end.state is not CopyState.IDLE:
            raise trap(f"the {end.kind} is busy or done")
        if end.set is not None and not options.is_async:
            raise trap(f"a {end.kind} in a waitable set was used synchronously")
        buffer = make(state.contexts[context], lambda: state.contexts[outside], options.encoding, converter, at, length)

        def event(result: CopyResult, reclaim: Callable[[], None] | None) -> Event:
            if reclaim is not None:
                reclaim()
            done = result is CopyResult.DROPPED or (future and result is CopyResult.COMPLETED)
            end.state = CopyState.DONE if done else CopyState.IDLE
            return code, index, result if future else result | buffer.progress << STATE_BITS

        end.state, end.buffer = CopyState.COPYING, buffer
        copy = end.shared.read if readable else end.shared.write
        copy(
            buffer,
            lambda reclaim: end.notify(lambda: event(CopyResult.COMPLETED, reclaim)),
            lambda result: end.notify(lambda: event(result, None)),
        )
        if end.pending is None:
            if options.is_async:
                _put(frame, 0, _BLOCKED)
                return
            _wait_for(state, end)
        _put(frame, 0, end.take_event()[2])

    return body


def _end(instance: Any, index: int, readable: bool, shape: Any) -> CopyEnd:
    end: CopyEnd = instance.get_as(index, CopyEnd)
    if end.readable is not readable or end.shared.element != shape:
        raise trap(f"handle index {index} is the {end.kind} of another type")
    return end


def _cancel(function: AsyncFunction, plan: Any) -> Body:
    of, readable = function.type, function.name.endswith("read")
    assert of is not None
    shape = shape_of(of)

    def body(state: Any, address: int) -> None:
        instance, frame = _instance(state, function.instance), _frame(address, 1)
        end = _end(instance, _one(frame)[0], readable, shape)
        if end.state is not CopyState.COPYING or end.sync_waiter:
            raise trap(f"no copy of the {end.kind} is under way that could be cancelled")
        if end.set is not None and not function.flag:
            raise trap(f"a {end.kind} in a waitable set was cancelled synchronously")
        end.state = CopyState.CANCELLING
        if end.pending is None or end.shared.pending is end.buffer:  # a copy that is partly done is cancelled too
            end.shared.cancel()
            if end.pending is None:
                if function.flag:
                    _put(frame, 0, _BLOCKED)
                    return
                _wait_for(state, end)
        _put(frame, 0, end.take_event()[2])

    return body


def _drop_end(function: AsyncFunction, plan: Any) -> Body:
    of, readable = function.type, function.name.endswith("readable")
    assert of is not None
    shape = shape_of(of)

    def body(state: Any, address: int) -> None:
        instance = _instance(state, function.instance)
        (index,) = _one(_frame(address, 1))
        end = _end(instance, index, readable, shape)
        end.close()
        state.handles.leave(instance, index)

    return body


_FUNCTIONS: dict[str, Callable[[AsyncFunction, Any], Body]] = {
    "task.return": _task_return, "task.cancel": _task_cancel, "context.get": _context_get, "context.set": _context_set,
    "thread.yield": _yield, "backpressure.inc": _backpressure, "backpressure.dec": _backpressure,
    "subtask.cancel": _subtask_cancel, "subtask.drop": _drop(Subtask), "waitable-set.new": _set_new,
    "waitable-set.wait": _set_wait, "waitable-set.poll": _set_wait, "waitable-set.drop": _drop(WaitableSet),
    "waitable.join": _join,
}  # fmt: skip
_WAITING = frozenset({"thread.yield", "subtask.cancel", "waitable-set.wait", "waitable-set.poll"})
"""Built-ins that may run host functions and iterators of the application, as those of streams and futures do."""
_END_FUNCTIONS: dict[str, Callable[[AsyncFunction, Any], Body]] = {
    "new": _new, "read": _copy, "write": _copy, "cancel-read": _cancel, "cancel-write": _cancel,
    "drop-readable": _drop_end, "drop-writable": _drop_end,
}  # fmt: skip
