"""The parent's side of isolation. A worker may be compromised: the parent checks everything that it sends before use.

backend, store      sandboxes whose guests run in workers
calls, scalar_calls, columns, memory    calls and memory accesses as messages; calling_store is the interface they use
pool, forked        creating workers, and keeping some warm
host_calls, component_host_calls, handles    the embedder's functions and objects, called on behalf of a guest
services, streams, sockets, lookups, timestamps    operations that the worker's confinement denies
checked             validates counters, events and log lines that a worker reports
code, compiling, outlines, component_outlines, component_modules    artifacts for workers
"""
