import base64
import shutil

import cv2
import numpy as np
import pytest

from harness.metrics.ranking import auroc
from reports.numbers.frame import read_results, read_scores, results_frame
from reports.page.sheets import TILE, sheets
from tests.reports.fake_store import without

ONE = {
    "methods": [("das3d", ""), ("m3dm", "")],
    "settings": ["rgb", "3d"],
    "categories": ["cookie"],
}


def sheets_of(store, launch):
    frame = results_frame(store, launch)
    return sheets(frame, store, read_results(store, launch), read_scores(store, frame))


def pixels(uri):
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_a_sheet_shows_the_middle_image_of_every_defect_type_for_every_method(build):
    (sheet,) = sheets_of(*build(**ONE))
    assert [p.id for p in sheet.pictures] == ["good/004", "bump/002", "stain/002"]
    assert sheet.counts == {"good": 8, "bump": 5, "stain": 5} and not sheet.note
    assert [(c.method, c.setting) for c in sheet.columns] == [
        ("das3d", "rgb"),
        ("m3dm", "rgb"),
        ("das3d", "3d"),
        ("m3dm", "3d"),
    ]
    for picture in sheet.pictures:
        for uri in (picture.rgb, picture.depth, picture.truth, *picture.maps):
            assert pixels(uri).shape == (TILE, TILE, 3)


def test_the_ground_truth_is_outlined_on_the_maps(build):
    (sheet,) = sheets_of(*build(**ONE))
    good, bump, _ = (pixels(p.maps[0]).astype(int) for p in sheet.pictures)

    def cyan(tile):
        return (tile[..., :2].min(axis=-1) - tile[..., 2] > 60).sum()

    assert cyan(bump) > 20 > cyan(good)


def test_a_sheet_survives_a_missing_view_and_says_so(build):
    (sheet,) = sheets_of(*build(**ONE, views=False))
    assert "not in the store" in sheet.note
    assert all(p.rgb is p.depth is p.truth is None and all(p.maps) for p in sheet.pictures)


def test_a_sheet_survives_missing_maps(build):
    store, launch = build(**ONE)
    without(store, launch["cells"][0]["key"], "maps.npy")  # das3d, rgb, seed 0
    (sheet,) = sheets_of(store, launch)
    assert [p.maps[0] for p in sheet.pictures] == [None] * 3
    assert all(all(p.maps[1:]) and p.rgb for p in sheet.pictures)


def test_a_category_without_a_finished_cell_says_so(build):
    (sheet,) = sheets_of(*build(**ONE, troubles={("das3d",): "failed", ("m3dm",): "pending"}))
    assert not sheet.pictures and sheet.note == "No cell of this category is finished."


def test_defect_types_are_scored_against_the_good_images(build):
    store, launch = build(**ONE, arrays=False)
    (sheet,) = sheets_of(store, launch)
    expected, scores = [], read_scores(store, results_frame(store, launch))
    for cell in launch["cells"][:2]:  # das3d, rgb, both seeds
        table = scores[cell["key"]]
        good, bump = (table.loc[table["defect"] == d, "score"] for d in ("good", "bump"))
        expected.append(auroc(good.to_numpy(), bump.to_numpy()))
    assert sheet.defects[0].values["bump"] == pytest.approx(np.mean(expected))
    assert "good" not in sheet.defects[0].values


def test_a_store_without_arrays_still_gives_sheets(build):
    store, launch = build(**ONE)
    for cell in launch["cells"]:
        shutil.rmtree(store.folder(cell["key"]))
    assert [s.note for s in sheets_of(store, launch)] == ["No cell of this category is finished."]
