"""Attacks of a compromised worker: run ``python -m tests.isolation.attacks``, or a real worker (:mod:`..takeover`)."""

from __future__ import annotations

from tests.isolation.attacks import files, network, processes, streams
from tests.isolation.attacks.registry import ATTACKS, NUMBERS, attack, outcome
from tests.isolation.attacks.standalone import main

__all__ = ["ATTACKS", "NUMBERS", "attack", "files", "main", "network", "outcome", "processes", "streams"]
