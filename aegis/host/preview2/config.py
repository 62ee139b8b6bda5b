"""``wasi:config/store``: the values that the policy sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.host.wasi import Wasi

__all__ = ["implementation"]


class _ConfigStore:
    """``wasi:config/store``: the values of the policy, never those of the host's environment."""

    def __init__(self, wasi: Wasi) -> None:
        self._values = dict(wasi.grants.policy.config.set)

    def get(self, key: str) -> str | None:
        return self._values.get(key)

    def get_all(self) -> list[tuple[str, str]]:
        return list(self._values.items())


def implementation(interface: str, wasi: Wasi) -> object:
    """Return the object that implements ``interface``."""
    return _ConfigStore(wasi)
