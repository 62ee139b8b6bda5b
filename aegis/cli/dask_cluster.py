"""Connect to the Dask cluster that a campaign runs on."""

from __future__ import annotations

from typing import Any

from aegis.errors import PolicyError
from aegis.text import printable

__all__ = ["dask_executor"]


def dask_executor(address: str | None) -> Any:
    """Return an executor for the Dask scheduler at ``address``; ``None`` without an address.

    Raise :class:`~aegis.errors.PolicyError` if Dask is not installed or the scheduler does not answer.
    """
    if address is None:
        return None
    try:
        from distributed import Client
    except ImportError:
        raise PolicyError("--dask needs the extra dask: pip install 'aegis-wasm[dask]'") from None
    try:
        return Client(address, timeout=10).get_executor(retries=10, pure=False)
    except (OSError, ValueError, TimeoutError) as error:
        reason = printable(str(error), 200)
        raise PolicyError(f"no Dask scheduler answers at {printable(address)}: {reason}: check --dask") from None
