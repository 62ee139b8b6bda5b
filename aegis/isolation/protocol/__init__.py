"""How parent and worker talk: frames over a socket, large values in shared memory.

channel, frames     messages, and plain data as bytes
wit_values, errors  WIT values and errors as plain data, and back
setup               what a worker is sent before it runs anything
budgets             limits on the size of messages
columns, late_calls calls over columns; counters of calls that end late
packets, pickled, sealed    messages of the fork server, pickles, and files in memory that cannot change
"""
