"""Asynchronous components: tasks, subtasks, waitables, streams and futures (CanonicalABI.md, Concurrency.md).

    waitables      waitables and waitable sets, which deliver events to the guest
    copies         streams and futures: a read end and a write end between which buffers are copied
    buffers        the buffers of guests, and the conversion of their elements
    task           a call of an exported function, or between component instances
    scheduler      runs the tasks of one store, one at a time, and waits for host operations
    subtask        a call that the guest made, from the guest's side
    builtins       the canonical built-ins
    convert        generated converters of arguments and results

A task with a callback returns to the scheduler between its events. No other guest code can be suspended: the core API
of the engine has no fibers. A guest that waits in the middle of its code therefore keeps its frame on the native
stack, and the scheduler runs other tasks above it. Such waits end in the reverse order of their beginning.
"""
