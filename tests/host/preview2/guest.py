"""A guest's side of WASI 0.2 under one policy: the implementations, called as the engine would call them."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

from aegis.bindings.index import INDEX
from aegis.engine.call.door import Door
from aegis.host.grants import acquire
from aegis.host.net.network import Resolver
from aegis.host.wasi import Wasi
from aegis.limits import Limits
from aegis.policy import Policy
from aegis.policy.remedies import explained
from aegis.values import Decision
from aegis.wit.index import Provided
from aegis.wit.values import Err

__all__ = ["Guest", "descriptors", "provided", "refusal"]


def provided(interface: str) -> Provided:
    """Return the row of an interface, in WASI 0.2 or in the only version that the index has."""
    (row,) = (row for row in INDEX.rows if row.interface == interface and not row.version.startswith("0.3"))
    return row


class Guest:
    """WASI for one sandbox; ``decisions`` records the policy checks. On exit it checks that no resource is left."""

    def __init__(
        self,
        *,
        args: tuple[str, ...] = (),
        resolver: Resolver | None = None,
        timeout: float = 20,
        limits: dict[str, Any] | None = None,
        **policy: Any,
    ) -> None:
        made = Limits(timeout=timeout, **(limits or {}))
        self.door = Door(made)
        self.door.deadline = time.monotonic() + timeout
        self.door.listens = True
        self.decisions: list[Decision] = []
        self.door.on_decision = self.decisions.append
        granted = Policy(limits=made, **policy)
        self.door.explain = partial(explained, granted)
        self.grants = acquire(granted, args=args, scope=self.door)
        if resolver is not None:
            self.grants.network.resolver = resolver
        self.wasi = Wasi(self.grants, self.door, made)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *exception: object) -> None:
        self.grants.close()
        self.door.close()

    def of(self, interface: str) -> Any:
        """Return the object that implements ``interface``, a name without its version."""
        return self.wasi.implementation(provided(interface))

    @property
    def denied(self) -> list[str]:
        """Return the flags that would have granted the denied operations."""
        return [decision.remedy for decision in self.decisions if not decision.allowed]


def refusal(function: Any, *arguments: Any) -> str:
    """Return the error code of a call; fail if the call succeeds."""
    try:
        value = function(*arguments)
    except Err as error:
        code = error.value
        return str(code.value) if hasattr(code, "value") and isinstance(code.value, str) else type(code).__name__
    raise AssertionError(f"it was answered with {value!r}")


def descriptors() -> set[str]:
    """Return the open descriptors of this process. Compare with ``<=``: threads of other tests may close some."""
    return set(os.listdir("/dev/fd"))
