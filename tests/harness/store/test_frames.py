"""The way back from a view's pixels to the sensor's: padding, crop and scale are undone."""

import cv2
import numpy as np
import pytest

from harness.data.views.background import pad_square
from harness.store import Record
from harness.store.frames import Frame, frame_of, frames_told

SIZES = [(400, 900), (800, 600), (500, 500), (333, 217), (720, 1280)]


@pytest.mark.parametrize("size", SIZES)
def test_what_was_padded_comes_back_pixel_for_pixel(size):
    image = np.random.default_rng(0).random(size, dtype=np.float32)
    padded = pad_square(image)
    frame = Frame.square(size)
    assert padded.shape == (frame.height, frame.width)
    assert np.array_equal(frame.back(padded, size), image)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [64, 256])
def test_a_point_of_a_view_comes_back_to_where_it_was(size, side):
    at = (size[0] // 3, size[1] // 2)
    image = np.zeros(size, np.float32)
    image[at] = 1
    image = cv2.GaussianBlur(image, (0, 0), max(size) / side * 2)
    seen = cv2.resize(pad_square(image), (side, side), interpolation=cv2.INTER_AREA)
    back = Frame.square(size).back(seen, size)
    found = np.unravel_index(back.argmax(), size)
    assert np.abs(np.subtract(found, at)).max() <= max(size) / side


def test_a_stretched_view_comes_back_by_scale_alone():
    seen = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    back = Frame.whole((100, 50)).back(seen, (100, 50))
    assert np.array_equal(back, cv2.resize(seen, (50, 100), interpolation=cv2.INTER_LINEAR))


def test_what_a_crop_left_out_has_the_least_score():
    seen = np.full((20, 30), 3, np.float32)
    seen[0, 0] = 1
    back = Frame(top=10, left=-5, height=20, width=30).back(seen, (40, 60))
    assert np.array_equal(back[10:30, :25], seen[:, 5:])
    assert (back[:10] == 1).all() and (back[30:] == 1).all() and (back[:, 25:] == 1).all()


def view(recipe, frames=None):
    summary = {} if frames is None else {"frames": frames}
    return Record({"spec": {"kind": "view", "view": recipe}, "summary": summary}, None)


def test_a_view_says_its_way_whatever_its_name():
    told = frames_told([((40, 60), Frame(-10, 0, 60, 60)), ((40, 60), Frame(-10, 0, 60, 60))])
    assert told == [[40, 60, -10, 0, 60, 60]]
    assert frame_of(view({"name": "own"}, told), (40, 60)) == Frame(-10, 0, 60, 60)


@pytest.mark.parametrize(
    "recipe, padded",
    [
        ({"name": "das3d", "background": "plane", "pad": True}, True),
        ({"name": "das3d", "background": "none", "pad": True}, True),
        ({"name": "m3dm", "background": "none", "pad": True}, False),
        ({"name": "shape_guided", "background": "plane", "pad": True}, True),
        ({"name": "dbrn", "background": "plane"}, False),
    ],
)
def test_views_that_do_not_say_it_are_known_by_their_recipe(recipe, padded):
    size = (720, 1280)
    wanted = Frame.square(size) if padded else Frame.whole(size)
    assert frame_of(view(recipe), size) == wanted
