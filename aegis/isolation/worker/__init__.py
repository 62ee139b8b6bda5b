"""The worker's side of isolation: a process that serves one sandbox at a time, and confines itself before a guest runs.

fork_server         the process that forks workers
main                the steps of a worker: receive the specification, confine itself, serve the parent
session             serves the parent's messages for one sandbox; scalar_calls and columns for special calls
compiling           compiles an artifact in a worker of its own
confinement         derives from a policy the confinement that the operating system enforces
backend             grants made of descriptors that the parent opened
host_calls, component_host_calls, streams, sockets    stand-ins for functions, objects and streams of the parent
warmup, reserve, preloaded_code    work and modules that are prepared before confinement
"""
