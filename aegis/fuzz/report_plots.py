"""Plots of the HTML report as inline SVG: axes with numbers, points, and lines."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from aegis.text import visible

__all__ = ["COLOURS", "lines", "scatter"]

COLOURS = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#8c564b", "#c2569f", "#0e8c9c", "#6b6b6b")
_WIDTH, _HEIGHT = 760, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 16, 12, 48
_MAX_TICK_POINTS = 7
_SUFFIXES = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


class _Axis:
    """Maps values to positions between ``start`` and ``stop`` of the picture, and chooses round numbers as ticks."""

    def __init__(self, values: Sequence[float], start: float, stop: float, *, logarithmic: bool = False) -> None:
        self.start, self.stop, self.logarithmic = start, stop, logarithmic
        low, high = min(values), max(values)
        if logarithmic:
            self.low, self.high = max(low, 0), max(high, low + 1)
        else:
            self.low, self.high = 0.0, max(high, 0.001)

    def at(self, value: float) -> float:
        """Return the position of a value."""
        if self.logarithmic:
            low, high = math.log1p(self.low), math.log1p(self.high)
            part = (math.log1p(value) - low) / ((high - low) or 1)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Return round numbers in the range of the axis."""
        if not self.logarithmic:
            step = _round_step(self.high / _MAX_TICK_POINTS)
            return [step * n for n in range(int(self.high / step + 1e-9) + 1)]
        powers = [float(10**n) for n in range(int(math.log10(self.high)) + 1) if self.low <= 10**n <= self.high]
        found = [*([self.low] if self.low < 1 else []), *powers]
        if len(powers) < 2:  # less than a decade
            step = _round_step((self.high - self.low) / _MAX_TICK_POINTS)
            first = math.ceil(self.low / step)
            found = [step * n for n in range(first, int(self.high / step + 1e-9) + 1)]
        return found[:: -(-len(found) // _MAX_TICK_POINTS)]


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not less than ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def _number(value: float) -> str:
    """Return a tick's number, short: ``250``, ``1.5k``, ``20M``."""
    for size, suffix in _SUFFIXES:
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def scatter(points: Sequence[tuple[str, int, int]], across: str, up: str) -> str:
    """Return a plot of named points on logarithmic axes, with a legend."""
    if not points:
        return "<p>No calls.</p>"
    names = sorted({name for name, _, _ in points})
    x = _Axis([size for _, size, _ in points], _LEFT, _WIDTH - _RIGHT, logarithmic=True)
    y = _Axis([fuel for _, _, fuel in points], _HEIGHT - _BOTTOM, _TOP, logarithmic=True)
    dots = "".join(
        f'<circle cx="{x.at(size):.1f}" cy="{y.at(fuel):.1f}" r="2.5" fill="{_colour(names, name)}" fill-opacity=".6">'
        f"<title>{_escaped(name)}: {html.escape(across)} {size:,}, {html.escape(up)} {fuel:,}</title></circle>"
        for name, size, fuel in points
    )
    return _picture(dots, x, y, f"{across} (logarithmic)", f"{up} (logarithmic)") + _legend(names)


def lines(series: Sequence[tuple[str, Sequence[tuple[float, float]]]], up: str) -> str:
    """Return a plot of named lines over seconds; a line without points is left out."""
    drawn = [(name, points) for name, points in series if points]
    if not drawn:
        return "<p>No calls.</p>"
    x = _Axis([at for _, points in drawn for at, _ in points], _LEFT, _WIDTH - _RIGHT)
    y = _Axis([value for _, points in drawn for _, value in points], _HEIGHT - _BOTTOM, _TOP)
    names = [name for name, _ in drawn]
    inside = "".join(
        f'<polyline points="{" ".join(f"{x.at(at):.1f},{y.at(value):.1f}" for at, value in ((0.0, 0.0), *points))}" '
        f'fill="none" stroke="{_colour(names, name)}" stroke-width="2"><title>{_escaped(name)}</title></polyline>'
        for name, points in drawn
    )
    return _picture(inside, x, y, "seconds", up) + (_legend(names) if len(names) > 1 else "")


def _colour(names: Sequence[str], name: str) -> str:
    return COLOURS[names.index(name) % len(COLOURS)]


def _legend(names: Sequence[str]) -> str:
    shown = " ".join(
        f'<span class="key"><span style="color:{_colour(names, name)}">&#9679;</span> {_escaped(name)}</span>'
        for name in names[:24]
    )
    return f'<p class="legend">{shown}{f" and {len(names) - 24} more" if len(names) > 24 else ""}</p>'


def _picture(inside: str, x: _Axis, y: _Axis, across: str, up: str) -> str:
    grid = "".join(
        f'<line class="grid" x1="{x.at(tick):.1f}" y1="{_TOP}" x2="{x.at(tick):.1f}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text class="tick" x="{x.at(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
        f"{_number(tick)}</text>"
        for tick in x.ticks()
    ) + "".join(
        f'<line class="grid" x1="{_LEFT}" y1="{y.at(tick):.1f}" x2="{_WIDTH - _RIGHT}" y2="{y.at(tick):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{y.at(tick) + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
        for tick in y.ticks()
    )
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(up)} by {html.escape(across)}">'
        f'{grid}<path class="axes" d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}"/>{inside}'
        f'<text class="name" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">'
        f"{html.escape(across)}</text>"
        f'<text class="name" x="16" y="{middle}" transform="rotate(-90 16 {middle})" text-anchor="middle">'
        f"{html.escape(up)}</text></svg>"
    )


def _escaped(text: str) -> str:
    return html.escape(visible(text))
