"""The worker's side of isolation: one process, one sandbox at a time, confined before it runs a guest.

fork_server         the process that forks workers
main                a worker's life: setup, confinement, serving
confinement         from a policy to the confinement that the operating system enforces
backend             grants made of descriptors that the parent opened
host_calls, component_host_calls, streams, sockets    stand-ins for what lives in the parent
warmup, reserve, code_shelf    work and modules that are prepared before the confinement
"""
