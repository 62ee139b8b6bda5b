"""The parent's side of isolation. A worker may be hostile: everything that it sends is checked before it is used.

backend, store      sandboxes whose guests run in workers
pool, forked        making workers, and keeping some warm
host_calls, component_host_calls, handles    the embedder's functions and objects, called for a guest
services, streams, sockets, lookups, timestamps    what the parent does because a worker may not
checked             facts that a worker reports, believed as far as they can be true
code, compiling, outlines, component_outlines, component_modules    artifacts for workers
"""
