import re
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from harness.data.datasets import open_dataset
from harness.data.show import choose, raw_row, view_rows, write_sheet
from harness.data.views.recipes import RECIPES
from tests.harness.data.scans import scan, write_category, write_scan


@pytest.fixture
def dome(tmp_path):
    write_category(tmp_path / "data", height=60, width=90)
    return open_dataset("auto", tmp_path / "data")


def test_a_raw_row_shows_colour_depth_foreground_and_truth(dome):
    category, ref = choose(dome, samples=["hole/000"])[0]
    row, sample = raw_row(category, ref, "plane"), ref.read()
    assert list(row.tiles) == ["rgb", "depth", "foreground", "mask"] and not row.note
    assert {tile.shape for tile in row.tiles.values()} == {(128, 192, 3)}
    enlarged = np.kron(sample.mask, np.ones((2, 2), bool))
    shown = row.tiles["mask"][:: 128 // 60, :: 192 // 90, 0] > 0
    assert shown.mean() == pytest.approx(enlarged.mean(), rel=0.2)
    assert 0.1 < (row.tiles["foreground"] > 0).mean() < 0.5  # the dome without the plane
    grey = (row.tiles["depth"] == 96).all(axis=2).mean()
    assert grey == pytest.approx(1 - sample.valid.mean(), abs=0.01)
    assert "60 x 90 px" in row.title and "dome test/hole/000" in row.title


def test_a_scene_without_a_plane_is_shown_with_the_reason(dome, tmp_path):
    rgb, xyz, _ = scan(60, 90)
    xyz[...] = 0
    xyz[20:40, 20:40] = (0.01, 0.01, 0.6)
    write_scan(dome.root / "dome/test/good", "000", rgb, xyz)
    category, ref = choose(dome, samples=["good/000"])[0]
    row = raw_row(category, ref, "plane")
    assert "background=none" in row.note and set(row.tiles) == {
        "rgb",
        "depth",
        "foreground",
        "mask",
    }
    assert not raw_row(category, ref, "none").note


def test_a_view_row_shows_the_arrays_of_the_view(dome):
    category, ref = choose(dome, samples=["hole/001"])[0]
    (row,) = view_rows(category, [ref], RECIPES["das3d"]())
    assert list(row.tiles) == ["rgb", "depth", "foreground", "mask"]
    assert {tile.shape for tile in row.tiles.values()} == {(192, 192, 3)}


def test_an_unreadable_sample_becomes_a_row_with_the_reason(dome):
    category, ref = choose(dome, samples=["hole/000"])[0]
    ref.xyz.write_bytes(b"")
    for row in (raw_row(category, ref, "plane"), *view_rows(category, [ref], RECIPES["das3d"]())):
        assert "cannot read" in row.note and not row.tiles


def test_without_names_every_defect_has_its_turn(dome):
    write_category(dome.root, "other")
    dome = open_dataset("auto", dome.root)
    ids = [f"{c.name}/{r.defect}/{r.name}" for c, r in choose(dome, limit=4)]
    assert ids == ["dome/good/000", "dome/hole/000", "other/good/000", "other/hole/000"]
    assert len(choose(dome)) == 6
    assert [r.id for _, r in choose(dome, ["other"], "train", limit=2)] == [
        "train/good/000",
        "train/good/001",
    ]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"split": "val"}, "train, validation, test"),
        ({"categories": ["domes"]}, "known: dome"),
        ({"samples": ["hole/9"]}, "no sample hole/9; there are test/good/000"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(dome, options, named):
    with pytest.raises(ValueError, match=named):
        choose(dome, **options)


def test_a_finished_view_is_shown_with_its_quality(dome):
    category, ref = choose(dome, samples=["hole/001"])[0]
    (row,) = view_rows(category, [ref], RECIPES["dbrn"]())
    assert list(row.tiles) == ["rgb", "depth", "foreground", "mask"]  # none of its inner arrays
    assert 0.05 < (row.tiles["foreground"] > 0).mean() < 0.6
    assert "foreground 0." in row.title and "contrast 0." in row.title


def test_an_unknown_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ends in .png or .html"):
        write_sheet([], tmp_path / "sheet.pdf", "t")


def test_a_sheet_is_one_image_that_holds_the_tiles(dome, tmp_path):
    rows = [raw_row(*one, "plane") for one in choose(dome, limit=2)]
    write_sheet(rows, tmp_path / "new" / "sheet.png", "dome")
    sheet = np.array(Image.open(tmp_path / "new" / "sheet.png"))
    assert sheet.shape[1] >= 4 * 192 and sheet.shape[0] >= 2 * 128
    tile = rows[0].tiles["rgb"]
    found = [
        (y, x)
        for y in range(sheet.shape[0] - 128)
        for x in (6,)
        if np.array_equal(sheet[y : y + 128, x : x + 192], tile)
    ]
    assert len(found) == 1


def test_a_page_is_self_contained_and_its_text_is_escaped(tmp_path):
    name = "<img src=x onerror=alert(1)>&"
    write_category(tmp_path / "data", name)
    dataset = open_dataset("auto", tmp_path / "data")
    rows = [raw_row(*one, "plane") for one in choose(dataset, limit=1)]
    write_sheet(rows, tmp_path / "page.html", f"{name}: folder")
    page = (tmp_path / "page.html").read_text()
    assert "<img src=x" not in page and "&lt;img src=x onerror=alert(1)&gt;&amp;" in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 4 and all(s.startswith("data:image/png;base64,") for s in sources)
    assert "http" not in page.replace("data:image", "")
    tile = np.array(Image.open(BytesIO(b64decode(sources[0].split(",")[1]))))
    assert np.array_equal(tile, rows[0].tiles["rgb"])
