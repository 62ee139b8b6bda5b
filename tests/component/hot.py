"""Select how calls are executed: fused from the first call, or between components through the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from aegis.component import call, store
from aegis.component.planning.artifact import Component

__all__ = ["fused_at_once", "is_fused", "is_linked", "unlinked"]


@contextmanager
def fused_at_once() -> Iterator[None]:
    """Fuse every function that has a fused module, regardless of thresholds."""
    ordinary = call.bind_component

    def bind(store: Any, frame: Any, style: int) -> Callable[..., Any]:
        made = call.bind_fused(store, frame, style)
        return ordinary(store, frame, style) if made is None else made

    with mock.patch.object(store, "bind_component", bind):
        yield


def is_fused(sandbox: Any) -> bool:
    """Return whether a sandbox calls a function through a fused module."""
    return bool(sandbox._run.store.state._owned)


@contextmanager
def unlinked() -> Iterator[None]:
    """Route calls between components of later sandboxes through the host."""
    with mock.patch.object(Component, "links_for", return_value=None):
        yield


def is_linked(sandbox: Any) -> bool:
    """Return whether any call between the inner components of a sandbox's component bypasses the host."""
    return sandbox._run.store.plan.links is not None
