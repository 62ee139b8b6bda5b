# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``acme:values/owner@0.1.0``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aegis.wit.types import Borrow, Function, Interface, List, Option, Own, Record, Resource, Result, Variant
from aegis.wit.values import Err

from .acme_values_shapes import COLOR, Color
from .acme_values_shapes import TREE as PLANT
from .acme_values_shapes import Tree as Plant

__all__ = [
    "COLOR",
    "INTERFACE",
    "PLACE",
    "PLANT",
    "POT",
    "SHELF",
    "VESSEL",
    "Color",
    "Host",
    "Place",
    "PlaceHere",
    "PlaceNowhere",
    "PlaceThere",
    "Plant",
    "Pot",
    "PotClass",
    "Shelf",
    "Vessel",
]


class Pot(Protocol):
    """The resource ``pot``."""

    def swap(self, other: Pot, take: Pot) -> Pot: ...


Vessel: TypeAlias = Pot


@dataclass(frozen=True, slots=True)
class Shelf:
    """The record ``shelf``."""

    pots: list[Pot]
    best: Vessel | None


@dataclass(frozen=True, slots=True)
class PlaceHere:
    """``here`` of ``place``."""

    value: Pot


@dataclass(frozen=True, slots=True)
class PlaceThere:
    """``there`` of ``place``."""

    value: Pot


@dataclass(frozen=True, slots=True)
class PlaceNowhere:
    """``nowhere`` of ``place``."""


Place: TypeAlias = PlaceHere | PlaceThere | PlaceNowhere


class PotClass(Protocol):
    """The class of ``pot``: its constructor and static functions."""

    def __call__(self, of: Plant) -> Pot | Err[str]: ...


class Resources(Protocol):
    """The classes of the resources that are made by functions of their own."""

    @property
    def Pot(self) -> PotClass: ...


class Host(Resources, Protocol):
    """What Python provides to a guest that imports the interface."""

    def put(self, on: Shelf, from_: Place) -> Shelf | Err[Pot]: ...

    def paint(self, v: Vessel, color: Color) -> Color: ...


_NAME = "acme:values/owner@0.1.0"

POT = Resource("pot", python=Pot, owner=_NAME)
VESSEL = POT
SHELF = Record("shelf", (("pots", List(Own(POT))), ("best", Option(Own(VESSEL)))), python=Shelf, owner=_NAME)
PLACE = Variant(
    "place",
    (("here", Own(POT)), ("there", Borrow(POT)), ("nowhere", None)),
    python=(PlaceHere, PlaceThere, PlaceNowhere),
    owner=_NAME,
)

INTERFACE = Interface(
    _NAME,
    functions={
        "[constructor]pot": Function((("of", PLANT),), Result(Own(POT), "string")),
        "[method]pot.swap": Function((("self", Borrow(POT)), ("other", Borrow(POT)), ("take", Own(POT))), Own(POT)),
        "put": Function((("on", SHELF), ("from", PLACE)), Result(SHELF, Own(POT))),
        "paint": Function((("v", Borrow(VESSEL)), ("color", COLOR)), COLOR),
    },
    types={"plant": PLANT, "color": COLOR, "pot": POT, "vessel": VESSEL, "shelf": SHELF, "place": PLACE},
)
