"""WASI 0.3 on the grants of one sandbox, implemented against the bindings that Aegis generates from its WIT.

An asynchronous function that must wait returns an object with ``ready``, ``interest``, ``result`` and ``cancel``; the
scheduler of the sandbox waits for all of them together. A stream for the guest is an object with ``take``, and one
from the guest passes its elements to an object with ``give`` (:mod:`aegis.host.preview3.streams`). A future for the
guest is a :class:`~aegis.values.Promise`, or an object with ``result`` that advances while the guest waits for it. None
of them blocks.
"""
