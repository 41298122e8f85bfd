#!/usr/bin/env python3
"""Draw the icon and the logo of grokmon into custom_components/grokmon/brand/."""

import math
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw

type Point = tuple[float, float]
type Colour = tuple[int, int, int, int]

BRAND: Final = Path(__file__).resolve().parents[2] / "custom_components" / "grokmon" / "brand"

# Mid tones, so that one set of images stands on a light and on a dark page.
SHIELD_LEFT: Final[Colour] = (52, 168, 105, 255)
SHIELD_RIGHT: Final[Colour] = (38, 143, 88, 255)
LEAF_LEFT: Final[Colour] = (255, 255, 255, 255)
LEAF_RIGHT: Final[Colour] = (217, 242, 226, 255)
KEYHOLE: Final[Colour] = (24, 98, 60, 255)
WORDMARK: Final[Colour] = (46, 158, 99, 255)
CLEAR: Final[Colour] = (0, 0, 0, 0)

# Everything is drawn this many times larger and then reduced, which smooths the edges.
OVERSAMPLING: Final = 4
UNIT: Final = 512

# Right halves, from top to bottom, in a square of 512; the left halves are their mirror images.
SHIELD_CURVES: Final = (
    ((256.0, 14.0), (300.0, 52.0), (370.0, 72.0), (434.0, 74.0)),
    ((434.0, 74.0), (450.0, 75.0), (460.0, 85.0), (460.0, 101.0)),
    ((460.0, 101.0), (466.0, 300.0), (400.0, 430.0), (256.0, 500.0)),
)
LEAF_CURVES: Final = (
    ((256.0, 92.0), (300.0, 134.0), (372.0, 196.0), (364.0, 280.0)),
    ((364.0, 280.0), (357.0, 344.0), (304.0, 372.0), (256.0, 378.0)),
)
STEM_WIDTH: Final = 20.0
STEM_TOP: Final = 360.0
STEM_BOTTOM: Final = 424.0


def _bezier(curve: tuple[Point, Point, Point, Point], steps: int = 64) -> list[Point]:
    """Sample one cubic Bézier curve."""
    points = []
    for step in range(steps + 1):
        t = step / steps
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
        x = sum(weight * point[0] for weight, point in zip(weights, curve, strict=True))
        y = sum(weight * point[1] for weight, point in zip(weights, curve, strict=True))
        points.append((x, y))
    return points


def _half(curves: tuple[tuple[Point, Point, Point, Point], ...], *, mirrored: bool) -> list[Point]:
    """Return one half of a symmetric outline as a polygon."""
    points = [point for curve in curves for point in _bezier(curve)]
    return [(UNIT - x, y) for x, y in points] if mirrored else points


class _Canvas:
    """A drawing surface in units of a 512 pixel high image."""

    def __init__(self, width: float, height: float) -> None:
        """Start a transparent surface."""
        self._size = (width, height)
        self.image = Image.new("RGBA", (round(width * OVERSAMPLING), round(height * OVERSAMPLING)), CLEAR)
        self._draw = ImageDraw.Draw(self.image)

    def polygon(self, points: list[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points], fill=colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        (x, y), r = centre, radius
        box = tuple(value * OVERSAMPLING for value in (x - r, y - r, x + r, y + r))
        self._draw.ellipse(box, fill=colour)

    def stroke(self, points: list[Point], width: float, colour: Colour) -> None:
        """Draw a line with round ends and joints."""
        scaled = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
        self._draw.line(scaled, fill=colour, width=round(width * OVERSAMPLING), joint="curve")
        for point in points:
            self.disc(point, width / 2, colour)

    def reduced(self, height: int) -> Image.Image:
        """Return the drawing at its final height."""
        width = round(self._size[0] * height / self._size[1])
        return self.image.resize((width, height), Image.Resampling.LANCZOS)


def _draw_mark(canvas: _Canvas) -> None:
    """Draw the shield, the leaf on it and the keyhole in the leaf."""
    for mirrored, shield in ((True, SHIELD_LEFT), (False, SHIELD_RIGHT)):
        canvas.polygon(_half(SHIELD_CURVES, mirrored=mirrored), shield)
    canvas.stroke([(256, STEM_TOP), (256, STEM_BOTTOM)], STEM_WIDTH, LEAF_LEFT)
    for mirrored, leaf in ((True, LEAF_LEFT), (False, LEAF_RIGHT)):
        canvas.polygon(_half(LEAF_CURVES, mirrored=mirrored), leaf)
    canvas.disc((256, 246), 37, KEYHOLE)
    canvas.polygon([(242, 262), (270, 262), (286, 338), (226, 338)], KEYHOLE)


def _arc(centre: Point, radius: float, start: float, end: float) -> list[Point]:
    """Sample an arc; degrees count clockwise from the right, as the screen's y axis points down."""
    steps = max(2, round(abs(end - start) / 2))
    angles = (math.radians(start + (end - start) * step / steps) for step in range(steps + 1))
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def _arch(left: float, radius: float, top: float, base: float) -> list[Point]:
    """Return the arch of an n: up from its left foot, over, and down to the base line."""
    centre = (left + radius, top + radius)
    return [*_arc(centre, radius, 180, 360), (left + 2 * radius, base)]


def _letters(left: float, base: float) -> tuple[list[list[Point]], float]:
    """Return the strokes of the word grokmon, set from `left` on `base`, and where they end."""
    radius, narrow, gap = 62.0, 50.0, 72.0
    top = base - 2 * radius
    strokes: list[list[Point]] = []
    x = left

    def bowl() -> None:
        strokes.append(_arc((x + radius, base - radius), radius, 0, 360))

    # g
    bowl()
    right = x + 2 * radius
    strokes.append([(right, top), (right, base + 18), *_arc((x + radius, base + 18), radius, 0, 140)])
    x = right + gap
    # r
    strokes.append([(x, top), (x, base)])
    strokes.append(_arc((x + narrow, top + narrow), narrow, 180, 285))
    x += narrow + 14 + gap
    # o
    bowl()
    x += 2 * radius + gap
    # k
    strokes.append([(x, base - 196), (x, base)])
    strokes.append([(x + 84, top), (x, base - 52)])
    strokes.append([(x + 32, base - 74), (x + 92, base)])
    x += 92 + gap
    # m
    strokes.append([(x, top), (x, base)])
    strokes.append(_arch(x, narrow, top, base))
    strokes.append(_arch(x + 2 * narrow, narrow, top, base))
    x += 4 * narrow + gap
    # o
    bowl()
    x += 2 * radius + gap
    # n
    strokes.append([(x, top), (x, base)])
    strokes.append(_arch(x, radius - 4, top, base))
    return strokes, x + 2 * radius - 8


def icon() -> _Canvas:
    """Draw the square icon."""
    canvas = _Canvas(UNIT, UNIT)
    _draw_mark(canvas)
    return canvas


def logo() -> _Canvas:
    """Draw the mark with the name beside it."""
    thickness = 36.0
    strokes, end = _letters(left=548, base=326)
    canvas = _Canvas(end + thickness, UNIT)
    _draw_mark(canvas)
    for stroke in strokes:
        canvas.stroke(stroke, thickness, WORDMARK)
    return canvas


def main() -> None:
    """Write the four images."""
    BRAND.mkdir(parents=True, exist_ok=True)
    for name, canvas in (("icon", icon()), ("logo", logo())):
        for suffix, height in (("", UNIT // 2), ("@2x", UNIT)):
            path = BRAND / f"{name}{suffix}.png"
            canvas.reduced(height).save(path, optimize=True)
            print(f"{path.relative_to(BRAND.parents[2])}: {height} pixels high")


if __name__ == "__main__":
    main()
