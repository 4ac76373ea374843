"""Colour that does not lie over depth is told from edges; what fits, or says nothing, is not."""

from dataclasses import replace

import numpy as np
import pytest

from harness.data.check import check
from harness.data.datasets import open_dataset
from harness.data.registered import WAYS, compare
from harness.data.views.build import build_view
from harness.data.views.recipes import RECIPES
from tests.harness.data.scans import sample, scan, write_scan


def part(seed, size=(60, 80), symmetric=False):
    """An L, or a square, on a tilted table, in another place each time, with shadow and noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    top, left = (0, 0) if symmetric else rng.integers(-4, 5, 2)
    r, c = rows - size[0] // 2 + top, columns - size[1] // 2 + left
    body = (abs(r) < 14) & (abs(c) < 14)
    if not symmetric:
        body &= (r > 0) | (c < -2)
    z = 0.6 + 1e-4 * rows - 0.02 * body + rng.normal(0, 3e-4, size)
    shade = 90 + 70 * body - 40 * np.roll(body, 3, axis=1) * ~body + rng.normal(0, 6, size)
    rgb = np.clip(shade[..., None] + [0, 10, 20], 0, 255).astype(np.uint8)
    xyz = np.stack([(columns - 40.3) * z / 90, (rows - 30.3) * z / 90, z], axis=2)
    xyz[rng.random(size) < 0.1] = 0
    return sample(rgb, xyz.astype(np.float32), np.zeros(size, np.uint8))


def coloured(samples, turn):
    return [replace(one, rgb=np.ascontiguousarray(turn(one.rgb))) for one in samples]


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_what_fits_is_not_told(seed):
    assert compare([part(seed + i) for i in range(4)]) is None


@pytest.mark.parametrize("way", ["mirrored", "upside down", "turned by 180 degrees"])
def test_colour_that_is_turned_is_told(way):
    assert str(compare(coloured([part(i) for i in range(4)], WAYS[way]))) == way


def test_a_quarter_turn_of_square_images_is_told_by_how_to_turn_them():
    square = [part(i, (80, 80)) for i in range(4)]
    assert str(compare(coloured(square, WAYS["turned by 90 degrees"]))) == "turned by 270 degrees"


@pytest.mark.parametrize("columns", [-9, 9])
def test_depth_that_was_not_mapped_to_colour_is_told_by_how_far(columns):
    found = compare(coloured([part(i) for i in range(4)], lambda rgb: np.roll(rgb, columns, 1)))
    assert found is not None and not found.way
    assert abs(found.columns + columns) <= 2 and abs(found.rows) <= 2


def test_a_symmetric_part_and_noise_say_nothing():
    square = [part(i, symmetric=True) for i in range(4)]
    assert compare(coloured(square, WAYS["turned by 180 degrees"])) is None
    assert compare([sample(*scan(seed=i)) for i in range(4)]) is None
    assert compare([replace(one, xyz=one.xyz * 0) for one in square]) is None


def test_the_check_of_own_data_tells_it_once_a_category_and_its_views_are_suspect(tmp_path):
    for i in range(4):
        one = part(i)
        write_scan(tmp_path / "ell/train/good", f"{i:03}", one.rgb[:, ::-1], one.xyz)
    one = part(9)
    write_scan(tmp_path / "ell/test/good", "000", one.rgb[:, ::-1], one.xyz)
    dataset = open_dataset("auto", tmp_path)
    told = [p for p in check(dataset).problems if "edges" in p.problem]
    assert len(told) == 1 and "mirrored" in told[0].problem and "data show" in told[0].todo

    def suspect(background, name="plain"):
        view = RECIPES[name]().on(background)
        made = build_view(dataset.category("ell"), view, tmp_path / "view")
        return "colour-off-depth" in made["quality"]["suspect"]

    assert suspect("auto") and not suspect("none")  # whose owner knows better
