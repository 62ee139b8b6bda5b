"""The messages by which calls, reads and answers overlap in a worker.

They are notices: neither side waits for an answer to one, so they do not use shared memory. The parent sends

    ["start", operation, report, name, values]        start a call
    ["want", operation, report, end, count, request]  read a stream or future of the guest; ``request`` is that of the
                                              host function which waits for the elements (0 after its end); ``None`` if
                                              the application waits, for whom a turn goes on
    ["cancel", operation]                     cancel a call or read
    ["close-end", end]                        drop a stream or future of the guest, which the application closed
    ["gave", request, failed, value]          the answer to a request that was pending; ``failed`` is ``None`` if the
                                              worker gave the request up
    ["deadlock", heard]                       the answer to ``idle``, if the application does nothing more

and the request ["turn"], which the worker answers when no operation is left. With ``report``, the worker reports when
it starts an operation, whose time counts from then: guest code of another one may be running. The worker sends

    ["begun", operation]                      a call or read starts
    ["settled", operation, kind, value, handles, account]   the end of a call or read: "done", "cancelled", "refused"
    ["forget", request]                       the guest cancelled the call, or dropped the stream, of a pending request
    ["idle", heard]                           the guest waits for nothing but the application; ``heard`` is the number
                                              of notices that the worker has received

and the request ["later", request, number, values]: a host call whose answer may come later. The parent answers
["answer", request, failed, value] now, or ["pending", request] and sends ``gave`` once, whatever happens.
"""

from __future__ import annotations

__all__ = ["CANCELLED", "DONE", "NOTICES", "REFUSED"]

NOTICES = frozenset({"start", "want", "cancel", "close-end", "gave", "deadlock"})
"""The kinds of notices of the parent."""
DONE, CANCELLED, REFUSED = "done", "cancelled", "refused"
"""The ways in which an operation ends."""
