"""An HTTP client: one exchange a connection, on sockets that the policy allowed; no function blocks.

``transport``
    look-up, connection and TLS: bytes in and out, without blocking.
``http1``, ``http2``
    the protocols, as state machines of the libraries h11 and h2 (the extra ``http``).
``extra``
    whether those libraries are installed.
``exchange``
    one request and its response, with timeouts and limits.
"""
