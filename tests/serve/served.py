"""Applications of the two guests that serve HTTP: py-handler for WASI 0.2, py-async-handler for 0.3."""

from __future__ import annotations

from functools import cache
from typing import Any

from aegis import Aegis
from aegis.serve import Application, ServedRequest, asgi
from tests.guests import catalogue

__all__ = ["GUESTS", "PLACES", "Served", "component", "runtime", "served"]

GUESTS = ("py-handler", "py-async-handler")
PLACES = [(guest, isolate) for guest in GUESTS for isolate in (False, True)]
IDS = [f"{guest} {'isolated' if isolate else 'in process'}" for guest, isolate in PLACES]


@cache
def runtime(**policy: Any) -> Aegis:
    """Return the runtime of a policy, which tests share as applications would."""
    return Aegis(**{"timeout": "60s", **policy})


@cache
def component(guest: str, made: Aegis) -> Any:
    """Return the component of a guest, loaded by a runtime."""
    return made.load_file(catalogue.built(guest))


class Served:
    """An application with the reports of its requests."""

    def __init__(self, guest: str, isolate: bool | None = None, *, policy: dict[str, Any], **options: Any) -> None:
        self.reports: list[ServedRequest] = []
        made = runtime(**policy)
        self.app: Application = asgi(
            made, component(guest, made), isolate=isolate, on_request=self.reports.append, **options
        )

    @property
    def report(self) -> ServedRequest:
        """The report of the only request."""
        (only,) = self.reports
        return only


def served(guest: str, isolate: bool | None = None, *, policy: dict[str, Any] | None = None, **options: Any) -> Served:
    """Return an application of ``guest`` under a policy, by its keywords; ``options`` are those of ``asgi``."""
    return Served(guest, isolate, policy=policy or {}, **options)
