"""The cluster that a campaign runs on, where the command line names one."""

from __future__ import annotations

from typing import Any

from aegis.errors import PolicyError
from aegis.text import printable

__all__ = ["dask_executor"]


def dask_executor(address: str | None) -> Any:
    """Return the executor of the Dask cluster whose scheduler answers at ``address``, ``None`` without one."""
    if address is None:
        return None
    try:
        from distributed import Client
    except ImportError:
        raise PolicyError("--dask needs the extra dask: pip install 'aegis-wasm[dask]'") from None
    try:
        return Client(address, timeout=10).get_executor(retries=10, pure=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise PolicyError(f"no Dask scheduler answers at {printable(address)}: {printable(str(error), 200)}") from None
