"""Small charts as inline SVG: no script, no font, the page's own colours in light and dark."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 340, 240  # of a chart, in its own units
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 10, 36  # margins around the plot
PALETTE = (  # classes c0, c1, ...: in light, in dark
    ("#0b5cad", "#79b8ff"),
    ("#c2410c", "#ffa657"),
    ("#15803d", "#7ee787"),
    ("#a21caf", "#e6a5f5"),
    ("#0e7490", "#76e3ea"),
    ("#a16207", "#e3b341"),
    ("#be123c", "#ff9bab"),
    ("#4b5563", "#c9d1d9"),
)
COLOURS = len(PALETTE)
DASHES = ("", "6 3", "2 3")
HEADER, LINE, LEGEND = 6, 14, 15  # of a file: its head, lines, legend's rows
LETTER = 5.6  # of a name, its mean width
WRAP = 56  # characters a line of its caption
STYLE = Markup(  # of a file; a page has its own
    "text{font:10px system-ui,sans-serif;fill:#5c6570}.name,.title{fill:#1b1f24}"
    ".title{font-weight:600}.grid{stroke:#d8dde3;stroke-width:.6}"
    ".bar{stroke-width:8}polyline{fill:none;stroke-width:1.6}"
    ".front{stroke:#5c6570;stroke-width:1;stroke-dasharray:3 3}"
) + Markup("").join(
    Markup(".c{0}{{stroke:{1}}}circle.c{0}{{fill:{1}}}").format(i, light)
    for i, (light, _) in enumerate(PALETTE)
)


@dataclass(frozen=True)
class Series:
    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    style: int = -1  # colour; -1: by position


@dataclass(frozen=True)
class Axis:
    label: str
    low: float
    high: float
    log: bool = False
    percent: bool = False  # how shares are printed
    whole: bool = False  # of whole numbers only
    names: tuple[str, ...] = ()  # of the values 0, 1, ..., where they are no numbers

    @classmethod
    def of_names(cls, label: str, names: Sequence[str]) -> Axis:
        return cls(label, -0.5, len(names) - 0.5, names=tuple(names))

    def shown(self, value: float) -> str:
        if self.names:
            return self.names[round(value)]
        return f"{round(100 * value, 6) if self.percent else round(value, 9):g}"

    def place(self, value):
        """0 at low, 1 at high."""
        if self.log:
            return (np.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (np.asarray(value, float) - self.low) / (self.high - self.low)

    def ticks(self, count: int = 4) -> list[float]:
        """Round values; about that many steps, or powers of ten and their parts."""
        if self.names:
            return [float(i) for i in range(len(self.names))]
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            ratio = self.high / self.low
            steps = (1, 2, 3, 4, 5, 7) if ratio < 8 else (1, 3) if ratio < 300 else (1,)
            marks = [step * 10.0**power for power in powers for step in steps]
            return [m for m in marks if self.low * 0.999 <= m <= self.high * 1.001]
        step = _round_step((self.high - self.low) / count, self.whole)
        first = math.ceil(self.low / step - 1e-9) * step
        return list(np.arange(first, self.high + step * 1e-6, step))


def lines(title: str, series: Sequence[Series], x: Axis, y: Axis) -> Markup:
    """Polylines; one colour a series, dashed when colours run out."""
    marks = [
        Markup(
            '<polyline class="{}" points="{}" stroke-dasharray="{}"><title>{}</title></polyline>'
        ).format(
            f"c{_style(s, i) % COLOURS}",
            _points(s, x, y),
            DASHES[_style(s, i) // COLOURS % len(DASHES)],
            s.name,
        )
        for i, s in enumerate(series)
    ]
    return _chart(title, marks, x, y)


def scatter(
    title: str,
    points: Sequence[Series],
    x: Axis,
    y: Axis,
    front: Sequence[tuple[float, float]] = (),
) -> Markup:
    """Named points (a series of one each) and the line of those that nothing beats."""
    marks = []
    if len(front) > 1:
        xs, ys = [a for a, _ in front], [b for _, b in front]
        line = _points(Series("", xs, ys), x, y)
        marks.append(Markup('<polyline class="front" points="{}"/>').format(line))
    at = [tuple(round(float(v), 1) for v in _pixels(s.x[0], s.y[0], x, y)) for s in points]
    taken = [(px - 4, py - 4, px + 4, py + 4) for px, py in at]
    for i, (s, (px, py)) in enumerate(zip(points, at)):
        anchor, dx, dy = _beside(px, py, len(s.name) * LETTER, taken)
        marks.append(
            Markup(
                '<circle class="c{}" cx="{}" cy="{}" r="4"><title>{}</title></circle>'
                '<text class="name" x="{}" y="{}" text-anchor="{}">{}</text>'
            ).format(_style(s, i) % COLOURS, px, py, s.name, px + dx, py + dy + 3.5, anchor, s.name)
        )
    return _chart(title, marks, x, y)


_Box = tuple[float, float, float, float]  # left, top, right, bottom


def _beside(px: float, py: float, width: float, taken: list[_Box]) -> tuple[str, float, float]:
    """Anchor and shift of a point's name: where it covers least of what is there. Adds its box."""
    places = []
    for dy in (0, -12, 12, -24, 24):
        for anchor, dx in (("start", 7), ("end", -7)):
            left = px + dx if anchor == "start" else px + dx - width
            box = left, py + dy - 6, left + width, py + dy + 6
            outside = (
                min(0, left - LEFT) + min(0, WIDTH - box[2]) + min(0, HEIGHT - BOTTOM - box[3])
            )
            covered = sum(_overlap(box, other) for other in taken) - 100 * outside
            places.append((covered, anchor, dx, dy, box))
    _, anchor, dx, dy, box = min(places, key=lambda place: place[0])
    taken.append(box)
    return anchor, dx, dy


def _overlap(one: _Box, other: _Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, across) * max(0.0, down)


def cloud(
    title: str,
    points: Sequence[tuple[float, float, str]],
    x: Axis,
    y: Axis,
    level: float | None = None,
    best: Series | None = None,
) -> Markup:
    """Points, each with what is said of it; a dashed line across at `level`; a line through `best`.

    points: (x, y, text)
    """
    marks = []
    if level is not None:
        across = _points(Series("", [x.low, x.high], [level, level]), x, y)
        marks.append(Markup('<polyline class="front" points="{}"/>').format(across))
    if best is not None:
        marks.append(Markup('<polyline class="c0" points="{}"/>').format(_points(best, x, y)))
    for a, b, text in points:
        px, py = _pixels(a, b, x, y)
        marks.append(
            Markup(
                '<circle class="c0" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>'
            ).format(float(px), float(py), text)
        )
    return _chart(title, marks, x, y)


def bars(title: str, shares: Sequence[tuple[str, float]]) -> Markup:
    """Named shares, each name above its bar."""
    pitch = min(34.0, (HEIGHT - 8) / max(1, len(shares)))
    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            WIDTH, HEIGHT, title
        )
    ]
    longest = max((share for _, share in shares), default=1) or 1
    for i, (name, share) in enumerate(shares):
        top, long = 8 + i * pitch, max(0.5, (WIDTH - 60) * share / longest)
        parts.append(
            Markup(
                '<text class="name" x="0" y="{:.1f}">{}</text>'
                '<path class="bar c0" d="M0 {:.1f}h{:.1f}"/>'
                '<text x="{:.1f}" y="{:.1f}">{:.0f} %</text>'
            ).format(
                top + 6,
                name,
                top + pitch * 0.5,
                long,
                long + 5,
                top + pitch * 0.5 + 3.5,
                100 * share,
            )
        )
    return Markup("").join([*parts, Markup("</svg>")])


def _style(series: Series, position: int) -> int:
    return position if series.style < 0 else series.style


def _points(series: Series, x: Axis, y: Axis) -> str:
    px, py = _pixels(np.asarray(series.x, float), np.asarray(series.y, float), x, y)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px, py) if math.isfinite(a + b))


def _pixels(x_value, y_value, x: Axis, y: Axis):
    across, up = x.place(x_value), y.place(y_value)
    return (LEFT + (WIDTH - LEFT - RIGHT) * across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * up)


def _chart(title: str, marks: list, x: Axis, y: Axis) -> Markup:
    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            WIDTH, HEIGHT, title
        )
    ]
    ticks = x.ticks()
    room = int((WIDTH - LEFT - RIGHT) / max(1, len(ticks)) / LETTER)  # letters a line of a name
    for value in ticks:
        px, _ = _pixels(value, y.low, x, y)
        parts.append(
            Markup(
                '<path class="grid" d="M{0:.1f} {1}V{2}"/><text x="{0:.1f}" y="{3}" '
                'text-anchor="middle">{4}</text>'
            ).format(
                float(px),
                TOP,
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 12,
                _lines(x, value, room, float(px)),
            )
        )
    for value in y.ticks():
        _, py = _pixels(x.low, value, x, y)
        parts.append(
            Markup(
                '<path class="grid" d="M{0} {1:.1f}H{2}"/><text x="{3}" y="{4:.1f}" '
                'text-anchor="end">{5}</text>'
            ).format(LEFT, float(py), WIDTH - RIGHT, LEFT - 5, float(py) + 3.5, y.shown(value))
        )
    parts += marks
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            middle, HEIGHT - 5, x.label
        )
    )
    centre = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        Markup(
            '<text transform="translate(10 {}) rotate(-90)" text-anchor="middle">{}</text>'
        ).format(centre, y.label)
    )
    return Markup("").join([*parts, Markup("</svg>")])


def _lines(x: Axis, value: float, room: int, px: float) -> Markup:
    """What stands at a tick of the lower axis; long names in two lines."""
    if not x.names:
        return escape(x.shown(value))
    found = textwrap.wrap(x.shown(value), max(3, room), max_lines=2, placeholder="…")
    return Markup("").join(
        Markup('<tspan x="{:.1f}" dy="{}">{}</tspan>').format(px, 10 * bool(i), line)
        for i, line in enumerate(found)
    )


def legend(names: Sequence[str]) -> Markup:
    """The colours of series 0, 1, ..., by name; dashes repeat as in `lines`."""
    items = [
        Markup(
            '<span><svg viewBox="0 0 18 8" aria-hidden="true"><path class="c{}" d="M0 4H18" '
            'stroke-dasharray="{}"/></svg>{}</span>'
        ).format(i % COLOURS, DASHES[i // COLOURS % len(DASHES)], escape(name))
        for i, name in enumerate(names)
    ]
    return Markup('<p class="legend">{}</p>').format(Markup(" ").join(items))


def standalone(chart: Markup, title: str, caption: str, names: Sequence[str] = ()) -> str:
    """A chart as an SVG file on white, under its caption, with the legend of series 0, 1, ..."""
    inside = chart[chart.index(">") + 1 : -len("</svg>")]
    rows = [names[i : i + 2] for i in range(0, len(names), 2)]
    told = [title, *textwrap.wrap(caption, WRAP)]
    top = HEADER + LINE * len(told)
    height = top + HEIGHT + LEGEND * len(rows)
    parts = [
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{2}" '
            'height="{3}" role="img" aria-label="{4}"><style>{5}</style>'
            '<rect width="100%" height="100%" fill="#fff"/>'
        ).format(WIDTH, height, 2 * WIDTH, 2 * height, f"{title}: {caption}", STYLE),
        *(
            Markup('<text class="{}" x="{}" y="{}">{}</text>').format(
                "name" if i else "title", LEFT, HEADER + LINE * i + 8, line
            )
            for i, line in enumerate(told)
        ),
        Markup('<g transform="translate(0 {})">').format(top),
        inside,
        Markup("</g>"),
    ]
    for i, name in enumerate(names):
        x, y = LEFT + i % 2 * (WIDTH - LEFT) / 2, top + HEIGHT + LEGEND * (i // 2) + 8
        parts.append(
            Markup(
                '<polyline class="c{}" points="{},{} {},{}" stroke-dasharray="{}"/>'
                '<text class="name" x="{}" y="{}">{}</text>'
            ).format(
                i % COLOURS,
                x,
                y - 3.5,
                x + 16,
                y - 3.5,
                DASHES[i // COLOURS % len(DASHES)],
                x + 21,
                y,
                name,
            )
        )
    return str(Markup("").join([*parts, Markup("</svg>\n")]))


def _round_step(raw: float, whole: bool = False) -> float:
    power = 10.0 ** math.floor(math.log10(max(1.0, raw) if whole else raw))
    steps = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    return next(step * power for step in steps if step * power >= raw - 1e-12)
