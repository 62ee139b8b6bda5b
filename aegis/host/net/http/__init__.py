"""HTTP as a client: one exchange at a time, on sockets that the policy opened, nothing ever waiting here.

``transport``
    a name looked up, an address dialled, TLS: bytes in and out, without blocking.
``http1``, ``http2``
    the protocols, as state machines of well-kept libraries (h11, h2): the extra ``http``.
``exchange``
    a request and its response on them, with timeouts and limits.
"""
