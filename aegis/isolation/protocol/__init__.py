"""The protocol between parent and worker: frames over a socket, large values in shared memory.

channel, frames         messages over a socket; the encoding of plain data as bytes
scalar_frames           fixed frames for calls whose parameters and results are scalars
wit_values, errors      WIT values and errors as plain data, and back
specs                   the specification of a worker and of a sandbox, sent before a guest runs
budgets                 limits on the size of messages
columns, late_calls     calls over columns; counters of calls that exceed their deadline
packets, pickled, sealed    packets of the fork server; pickling; sealed memfds
"""
