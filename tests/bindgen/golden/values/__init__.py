# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The world ``acme:values/values@0.1.0``.

Imports:

- ``acme:values/shapes@0.1.0``
- ``acme:values/owner@0.1.0``
- ``acme:values/garden@0.1.0``

Exports:

- ``acme:values/shapes@0.1.0``
- ``acme:values/owner@0.1.0``
- ``acme:values/garden@0.1.0``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.wit.values import Bound

from . import (
    acme_values_garden,
    acme_values_garden_exports,
    acme_values_owner,
    acme_values_owner_exports,
    acme_values_shapes,
)

if TYPE_CHECKING:
    from aegis import Sandbox

__all__ = ["Values", "imports"]


def imports(
    *,
    shapes: acme_values_shapes.Host,
    owner: acme_values_owner.Host,
    garden: acme_values_garden.Host,
) -> dict[str, object]:
    """Return what the ``imports`` of a sandbox are; Aegis itself provides the others."""
    return {
        "acme:values/shapes@0.1.0": Bound(acme_values_shapes.INTERFACE, shapes),
        "acme:values/owner@0.1.0": Bound(acme_values_owner.INTERFACE, owner),
        "acme:values/garden@0.1.0": Bound(acme_values_garden.INTERFACE, garden),
    }


class Values:
    """What a guest of the world ``values`` exports, in one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.shapes: acme_values_shapes.Exports = sandbox.bind(acme_values_shapes.INTERFACE)
        self.owner: acme_values_owner_exports.Exports = sandbox.bind(acme_values_owner_exports.INTERFACE)
        self.garden: acme_values_garden_exports.Exports = sandbox.bind(acme_values_garden_exports.INTERFACE)
