# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The world ``root:several/host``.

Imports:

- ``lib:shapes/area@1.0.0``
- ``lib:shapes/area@1.10.0``
- ``lib:shapes/area@1.9.0``
- ``lib:shapes/area@2.0.0-rc.1``
- ``lib-shapes:area/area``

Exports:

- ``lib:shapes/draw@1.9.0``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis.wit.values import Bound

from . import (
    lib_shapes_area,
    lib_shapes_area_1_0_0,
    lib_shapes_area_1_9_0,
    lib_shapes_area_1_10_0,
    lib_shapes_area_area,
    lib_shapes_draw,
)

if TYPE_CHECKING:
    from aegis import Sandbox

__all__ = ["Host_", "imports"]


def imports(
    *,
    lib_shapes_area_1_0_0_: lib_shapes_area_1_0_0.Host,
    lib_shapes_area_1_10_0_: lib_shapes_area_1_10_0.Host,
    lib_shapes_area_1_9_0_: lib_shapes_area_1_9_0.Host,
    lib_shapes_area_: lib_shapes_area.Host,
    lib_shapes_area_area_: lib_shapes_area_area.Host,
) -> dict[str, object]:
    """Return what the ``imports`` of a sandbox are; Aegis itself provides the others."""
    return {
        "lib:shapes/area@1.0.0": Bound(lib_shapes_area_1_0_0.INTERFACE, lib_shapes_area_1_0_0_),
        "lib:shapes/area@1.10.0": Bound(lib_shapes_area_1_10_0.INTERFACE, lib_shapes_area_1_10_0_),
        "lib:shapes/area@1.9.0": Bound(lib_shapes_area_1_9_0.INTERFACE, lib_shapes_area_1_9_0_),
        "lib:shapes/area@2.0.0-rc.1": Bound(lib_shapes_area.INTERFACE, lib_shapes_area_),
        "lib-shapes:area/area": Bound(lib_shapes_area_area.INTERFACE, lib_shapes_area_area_),
    }


class Host_:
    """What a guest of the world ``host`` exports, in one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.draw: lib_shapes_draw.Exports = sandbox.bind(lib_shapes_draw.INTERFACE)
