"""A compile worker that was taken over hangs up and goes on. The fork server imports this module (:mod:`.taken`)."""

from __future__ import annotations

from aegis.isolation import worker
from tests.isolation.taken_streams import compile_and_hang

worker._compile = compile_and_hang  # type: ignore[assignment]
