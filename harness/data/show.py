"""Contact sheets: samples of a dataset, or of a view of it, as a PNG or a self-contained page.

A row is a sample, a column one of its arrays. Depth is coloured from near (dark) to far.
"""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from harness.data.samples import SPLITS, Category, DataError, Dataset, Ref
from harness.data.views.background import object_pixels, region
from harness.data.views.choice import resolved
from harness.data.views.preview import finished
from harness.data.views.quality import MEANING
from harness.data.views.reference import measure
from harness.store.prepared import MASK
from methods.declaration import View
from methods.errors import UserError
from methods.seeds import seed_for
from methods.views import BtfView

TILE_PX = 192  # longer side of an image on the sheet
GAP_PX, LINE_PX = 6, 16
ROWS = 24  # samples on a sheet unless more are asked for
GREY = 96  # where an array has no value


@dataclass(frozen=True)
class Row:
    title: str
    note: str  # why something could not be shown, or ""
    tiles: dict[str, np.ndarray]  # column -> (h, w, 3) uint8


def choose(
    dataset: Dataset,
    categories: Sequence[str] = (),
    split: str = "test",
    samples: Sequence[str] = (),
    limit: int = ROWS,
) -> list[tuple[Category, Ref]]:
    """The samples to show: those named, else of every defect of the categories in turn.

    samples: ids such as test/hole/003, or their ends ("hole/003", "003").
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    listed = [
        (category, ref)
        for category in map(dataset.category, categories or dataset.categories)
        for ref in category.examine(split)[0]
    ]
    if samples:
        wanted = [(c, r) for c, r in listed if any(f"/{r.id}".endswith(f"/{s}") for s in samples)]
        if not wanted:
            ids = ", ".join(ref.id for _, ref in listed[:5])
            raise UserError(f"no sample {' or '.join(samples)}; there are {ids or 'none'}, ...")
        return wanted
    if not listed:
        raise UserError(f"no complete sample in {split}; `relief data check` tells why")
    seen: dict[tuple[str, str], int] = {}
    turn = []
    for i, (category, ref) in enumerate(listed):
        folder = category.name, ref.defect
        seen[folder] = seen.get(folder, -1) + 1
        turn.append((seen[folder], i))
    return [listed[i] for i in sorted(i for _, i in sorted(turn)[:limit])]


def raw_row(category: Category, ref: Ref, background: str) -> Row:
    """RGB, depth, the object by that background (of declaration.BACKGROUNDS), ground truth."""
    try:
        sample = ref.read()
    except DataError as fault:
        return Row(f"{category.name} {ref.id}", str(fault), {})
    note, foreground = "", np.full(sample.valid.shape, np.nan)
    seed = seed_for("plane", sample.category, sample.id)
    try:
        if background == "plane":
            foreground = object_pixels(sample, BtfView(), seed) & sample.valid
        else:
            foreground = region(sample, View(background), seed)
    except DataError as fault:
        note = str(fault)
    depth = np.where(sample.valid, sample.xyz[..., 2], np.nan)
    arrays = {"rgb": sample.rgb, "depth": depth, "foreground": foreground, "mask": sample.mask}
    near, far = np.nanmin(depth), np.nanmax(depth)
    height, width = sample.mask.shape
    title = (
        f"{category.name} {ref.id}   {height} x {width} px, "
        f"z {near:.3f} to {far:.3f} m, {1 - sample.valid.mean():.1%} missing"
    )
    if background != "none":
        note = "; ".join(text for text in (note, *measure(sample).doubts) if text)
    return Row(title, note, {name: _tile(array) for name, array in arrays.items()})


def view_rows(
    category: Category,
    refs: Sequence[Ref],
    view: View,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """The finished arrays of samples in a view, each with its quality."""
    try:
        view, choice = resolved(category, view)
        found = finished(category, refs, view, report)
    except DataError as fault:
        return [Row(f"{category.name} {ref.id}", str(fault), {}) for ref in refs]
    said = f"background {choice.name}   " if choice else ""
    rows = []
    for ref, one in found.items():
        title = f"{category.name} {ref.id}   {said}"
        if isinstance(one, DataError):
            rows.append(Row(title, str(one), {}))
            continue
        numbers = {k: v for k, v in one.quality.plain().items() if isinstance(v, float)}
        title += " ".join(f"{name} {value:.2f}" for name, value in numbers.items())
        shown = {name: a for name, a in one.arrays.items() if a.ndim in (2, 3) and name != MASK}
        shown[MASK] = one.arrays[MASK]
        note = "; ".join(f"{flag}: {MEANING[flag]}" for flag in one.quality.flags)
        rows.append(Row(title, note, {name: _tile(array) for name, array in shown.items()}))
    return rows


def write_sheet(rows: Sequence[Row], path: Path, title: str) -> None:
    """PNG, or HTML where the file is called so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".html", ".htm"):
        path.write_text(_page(rows, title), encoding="utf-8")
    elif path.suffix.lower() == ".png":
        _sheet(rows, title).save(path)
    else:
        raise UserError(f"{path}: give a name that ends in .png or .html")


def _tile(array: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 of an image, a mask, a depth map or an organised cloud (its z)."""
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8:
        image, how = array, cv2.INTER_AREA
    elif array.dtype == bool:
        image, how = np.repeat(array[..., None] * np.uint8(255), 3, axis=2), cv2.INTER_AREA
    else:
        image, how = _coloured(array if array.ndim == 2 else array[..., -1]), cv2.INTER_NEAREST
    scale = TILE_PX / max(image.shape[:2])
    height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=how if scale < 1 else cv2.INTER_NEAREST)


def _coloured(values: np.ndarray) -> np.ndarray:
    """Viridis over the finite values, but for the last 0.5 % at both ends; grey elsewhere."""
    known = np.isfinite(values)
    out = np.full((*values.shape, 3), GREY, np.uint8)
    if not known.any():
        return out
    values = values.astype(np.float64)
    low, high = np.quantile(values[known], (0.005, 0.995))
    level = np.where(known, (values - low) / max(high - low, 1e-12), 0).clip(0, 1)
    colours = cv2.applyColorMap(np.round(255 * level).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    out[known] = colours[..., ::-1][known]
    return out


def _sheet(rows: Sequence[Row], title: str) -> Image.Image:
    width = (
        max(
            [4 * (TILE_PX + GAP_PX)]
            + [sum(tile.shape[1] + GAP_PX for tile in row.tiles.values()) for row in rows]
        )
        + GAP_PX
    )
    font = ImageFont.load_default(12)
    wrapped = [_wrapped(row.note, width - 2 * GAP_PX, font) for row in rows]
    tallest = [max((tile.shape[0] for tile in row.tiles.values()), default=0) for row in rows]
    heights = [LINE_PX * (2 + len(lines)) + px + GAP_PX for lines, px in zip(wrapped, tallest)]
    sheet = Image.new("RGB", (width, 2 * LINE_PX + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP_PX, 2), title, "black", font)
    top = 2 * LINE_PX
    for row, lines, height in zip(rows, wrapped, heights):
        draw.text((GAP_PX, top), row.title, "black", font)
        for i, line in enumerate(lines):
            draw.text((GAP_PX, top + LINE_PX * (i + 1)), line, "darkred", font)
        left, below = GAP_PX, top + LINE_PX * (1 + len(lines))
        for name, tile in row.tiles.items():
            draw.text((left, below), name, "grey", font)
            sheet.paste(Image.fromarray(tile), (left, below + LINE_PX))
            left += tile.shape[1] + GAP_PX
        top += height
    return sheet


def _wrapped(text: str, width: int, font) -> list[str]:
    """Lines that fit; file names have few spaces, so anywhere."""
    per_line = max(1, int(width / font.getlength("m") * 1.6))
    return [text[i : i + per_line] for i in range(0, len(text), per_line)]


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px sans-serif; margin: 1em }} h2 {{ font-size: 14px; margin: 1.2em 0 .3em }}
figure {{ display: inline-block; margin: 0 6px 0 0 }} figcaption {{ color: #666 }}
p {{ color: #8b0000; margin: 0 }} img {{ image-rendering: pixelated }}
</style>
<h1>{title}</h1>
{rows}
</html>
"""


def _page(rows: Sequence[Row], title: str) -> str:
    parts = []
    for row in rows:
        parts.append(f"<h2>{html.escape(row.title)}</h2>")
        if row.note:
            parts.append(f"<p>{html.escape(row.note)}</p>")
        parts += [
            f"<figure><figcaption>{html.escape(name)}</figcaption>"
            f'<img alt="{html.escape(name)}" src="{_data_url(tile)}"></figure>'
            for name, tile in row.tiles.items()
        ]
    return _PAGE.format(title=html.escape(title), rows="\n".join(parts))


def _data_url(tile: np.ndarray) -> str:
    file = BytesIO()
    Image.fromarray(tile).save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
