"""The untouched ground truth of a category, and what the views say of the way back to it."""

import numpy as np
import pytest
from PIL import Image

from harness.data import synthetic
from harness.data.datasets import open_dataset
from harness.data.samples import DataError
from harness.data.synthetic.generate import write_category
from harness.data.truth import MASKS, build_truth, read_truth
from harness.data.views.build import build_view
from harness.store import Record
from harness.store.frames import Frame, frame_of
from methods.views import Das3dView, DbrnView, Dsr3dView, M3dmView, ShapeGuidedView


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    found = {}
    for layout in ("mvtec3d", "eyecandies"):
        root = tmp_path_factory.mktemp(layout)
        spec = synthetic.Spec(
            layout=layout, size=60, categories=("cookie",), train=2, validation=1, good=2,
            per_defect=1,
        )  # fmt: skip
        write_category(root, "cookie", spec)
        found[layout] = root
    return found


@pytest.mark.parametrize("layout", ["mvtec3d", "eyecandies"])
def test_masks_are_those_that_reading_the_samples_gives(roots, tmp_path, layout):
    category = open_dataset(layout, roots[layout]).category("cookie")
    summary = build_truth(category, tmp_path, workers=2)
    truth, samples = read_truth(tmp_path), [ref.read() for ref in category.samples("test")]
    assert truth.ids == tuple(sample.id for sample in samples)
    assert truth.labels.tolist() == [sample.label for sample in samples]
    for i, sample in enumerate(samples):
        assert truth.sizes[i] == sample.mask.shape
        assert np.array_equal(truth.mask(i), sample.mask)
    assert summary == {"test": len(samples), "anomalous": sum(s.label for s in samples)}
    assert truth.packed.nbytes == sum(-(-s.mask.size // 8) for s in samples)


def test_images_of_different_sizes_keep_them(roots, tmp_path):
    category = open_dataset("mvtec3d", roots["mvtec3d"]).category("cookie")
    odd = category.samples("test")[0]
    mask = np.zeros((7, 13), np.uint8)
    mask[2, 3] = 254
    before = odd.gt.read_bytes()
    try:
        Image.fromarray(mask).save(odd.gt)
        build_truth(category, tmp_path)
    finally:
        odd.gt.write_bytes(before)
    truth = read_truth(tmp_path)
    assert truth.sizes[0] == (7, 13) and truth.sizes[1] == (60, 60)
    assert np.argwhere(truth.mask(0)).tolist() == [[2, 3]]


def test_a_damaged_truth_is_named(roots, tmp_path):
    build_truth(open_dataset("mvtec3d", roots["mvtec3d"]).category("cookie"), tmp_path)
    (tmp_path / "test" / MASKS).unlink()
    with pytest.raises(DataError, match=r"damaged or unfinished truth"):
        read_truth(tmp_path)


@pytest.mark.parametrize(
    "view, padded",
    [
        (Das3dView(size=32), True),
        (Das3dView(size=32, pad=False), False),
        (M3dmView(size=32), True),
        (ShapeGuidedView(size=32, background="none"), False),
        (DbrnView(size=32), False),
        (Dsr3dView(size=32), False),
    ],
)
def test_every_view_says_which_part_of_the_image_it_shows(roots, tmp_path, view, padded):
    category = open_dataset("mvtec3d", roots["mvtec3d"]).category("cookie")
    summary = build_view(category, view, tmp_path)
    record = Record({"summary": summary}, tmp_path)
    wanted = Frame.square((60, 60)) if padded else Frame.whole((60, 60))
    assert frame_of(record, (60, 60)) == wanted
