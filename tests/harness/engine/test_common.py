"""The common protocol: every method's maps at the sensor's pixels, against the untouched truth."""

import cv2
import numpy as np
import pytest

from harness import metrics
from harness.data.truth import SensorTruth
from harness.data.views.background import pad_square
from harness.engine import scoring
from harness.metrics import evaluate
from harness.store import Record
from harness.store.frames import Frame, frames_told
from methods.errors import UserError

SIZE = (40, 90)
IDS = tuple(f"test/{'good' if i < 2 else 'hole'}/{i:03d}" for i in range(6))


@pytest.fixture
def example():
    """maps (n, 40, 90), scores, and their truth."""
    rng = np.random.default_rng(0)
    masks = np.zeros((len(IDS), *SIZE), bool)
    for i in range(2, len(IDS)):
        masks[i, 5 : 9 + i, 30 : 40 + 3 * i] = True
    maps = (rng.random(masks.shape) + 0.4 * masks).astype(np.float32)
    labels = np.array([0, 0, 1, 1, 1, 1])
    packed = np.concatenate([np.packbits(mask) for mask in masks])
    defects = tuple(id.split("/")[1] for id in IDS)
    truth = SensorTruth(IDS, defects, labels, (SIZE,) * len(IDS), packed)
    return maps, maps.max(axis=(1, 2)), masks, truth


def view(frame):
    return Record({"summary": {"frames": frames_told([(SIZE, frame)])}}, None)


def test_maps_at_the_sensor_s_size_are_scored_as_they_are(example):
    maps, scores, masks, truth = example
    found = scoring.common(maps, scores, IDS, None, truth, "bagel")
    assert found["metrics"] == evaluate(maps, masks, scores, truth.labels)
    assert "|res:sensor|" in found["signatures"]["aupro_0.3"]


def test_padding_has_no_part_in_the_scores(example):
    maps, scores, masks, truth = example
    padded = np.stack([pad_square(one) for one in maps])
    padded[:, :20] = 9  # above the image: would be the worst of false alarms
    found = scoring.common(padded, scores, IDS, view(Frame.square(SIZE)), truth, "bagel")
    assert found["metrics"] == evaluate(maps, masks, scores, truth.labels)


def test_maps_of_two_views_have_one_signature(example):
    maps, scores, _, truth = example
    small = np.stack([cv2.resize(one, (24, 24)) for one in maps])
    other = np.stack([cv2.resize(pad_square(one), (32, 32)) for one in maps])
    found = [
        scoring.common(small, scores, IDS, view(Frame.whole(SIZE)), truth, "bagel"),
        scoring.common(other, scores, IDS, view(Frame.square(SIZE)), truth, "bagel"),
    ]
    assert found[0]["signatures"] == found[1]["signatures"]
    assert found[0]["metrics"]["i_auroc"] == found[1]["metrics"]["i_auroc"]
    assert found[0]["metrics"]["p_auroc"] != found[1]["metrics"]["p_auroc"]


def test_images_are_known_by_id_and_not_by_their_place(example):
    maps, scores, masks, truth = example
    order = [3, 0, 5, 1, 4, 2]
    ids = [IDS[i] for i in order]
    found = scoring.common(maps[order], scores[order], ids, None, truth, "bagel")
    wanted = evaluate(maps, masks, scores, truth.labels)
    assert found["metrics"] == pytest.approx(wanted, abs=1e-12)


def test_another_resolution_shrinks_maps_and_truth_alike(example):
    maps, scores, masks, truth = example
    found = scoring.common(maps, scores, IDS, None, truth, "bagel", "common@45")
    how = {"dsize": (45, 20)}
    small = [cv2.resize(one, **how, interpolation=cv2.INTER_LINEAR) for one in maps]
    kept = [
        cv2.resize(one.astype(np.uint8), **how, interpolation=cv2.INTER_NEAREST) for one in masks
    ]
    assert found["metrics"] == evaluate(small, kept, scores, truth.labels)
    assert "|res:sensor@45|" in found["signatures"]["p_auroc"]


def test_unknown_protocols_and_other_images_are_refused(example):
    maps, scores, _, truth = example
    with pytest.raises(UserError, match="unknown protocol 'best'; known: paper, common"):
        scoring.common(maps, scores, IDS, None, truth, "bagel", "best")
    with pytest.raises(ValueError, match=r"bagel: .* differ in test/good/000"):
        scoring.common(maps[1:], scores[1:], IDS[1:], None, truth, "bagel")


def test_images_made_one_by_one_score_as_those_that_are_there(example):
    maps, _, masks, truth = example
    lazy = scoring.masks_of(truth, range(len(IDS)))
    one = metrics.pixel_metrics(metrics.PixelScores.of(maps, lazy))
    assert one == metrics.pixel_metrics(metrics.PixelScores.of(maps, masks))
