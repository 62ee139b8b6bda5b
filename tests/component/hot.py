"""The ways of a call: through fused modules at once, not after many calls; and between components through the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from aegis.component import call, link, store

__all__ = ["fused_at_once", "is_fused", "is_linked", "unlinked"]


@contextmanager
def fused_at_once() -> Iterator[None]:
    """Fuse every function for which there is a fused module, whatever the limits are."""
    ordinary = call.bind_component

    def bind(store: Any, frame: Any, style: int) -> Callable[..., Any]:
        made = call.bind_fused(store, frame, style)
        return ordinary(store, frame, style) if made is None else made

    with mock.patch.object(store, "bind_component", bind):
        yield


def is_fused(sandbox: Any) -> bool:
    """Tell whether a sandbox calls a function through a fused module."""
    return bool(sandbox._run.store.state._owned)


@contextmanager
def unlinked() -> Iterator[None]:
    """Have components that are used from now on call each other through the host."""
    with mock.patch.object(link, "links_for", return_value=None):
        yield


def is_linked(sandbox: Any) -> bool:
    """Tell whether any call between the components of a sandbox's component does not pass through the host."""
    return sandbox._run.store.plan.links is not None
