"""The fuzz harness: calls a guest's exports, answers its imports, and tells what it should not have done.

``aegis fuzz`` is its command. From Python: :mod:`~aegis.fuzz.strategies` for hypothesis, :func:`replay` for a finding,
:class:`~aegis.fuzz.campaign.Campaign` for whole campaigns. :mod:`aegis.fuzz.attack` turns round and attacks Aegis
itself: ``aegis fuzz --host``.
"""

from __future__ import annotations

from aegis.fuzz.replay import replay

__all__ = ["replay"]
