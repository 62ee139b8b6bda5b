"""What a compromised worker would try: ``python -m tests.isolation.attacks``, or in a real one (:mod:`..takeover`)."""

from __future__ import annotations

from tests.isolation.attacks import files, network, processes, streams
from tests.isolation.attacks.alone import main
from tests.isolation.attacks.registry import ATTACKS, NUMBERS, attack, outcome

__all__ = ["ATTACKS", "NUMBERS", "attack", "files", "main", "network", "outcome", "processes", "streams"]
