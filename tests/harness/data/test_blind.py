import numpy as np
import pytest

from harness.data.blind import Drawn, blind
from harness.data.cache import open_split
from harness.data.views.build import build_view
from methods.contract import Samples
from methods.seeds import opaque_id
from methods.views import Das3dView
from tests.harness.data.scans import write_category

IDS = tuple(f"test/{defect}/{i:03d}" for defect in ("good", "hole") for i in range(10))

SALT = "0123abcd"  # what identifies the data


def split():
    rng = np.random.default_rng(0)
    return Samples({"rgb": rng.random((20, 4, 4, 3)), "number": np.arange(20)}, IDS)


def test_every_sample_comes_once_under_an_id_that_tells_nothing():
    found = blind(split(), "bagel", SALT)
    assert sorted(found.rows) == list(range(20)) and found.names == IDS
    for i, row in enumerate(found.rows):
        assert found.samples.ids[i] == opaque_id(SALT, "bagel", IDS[row])
        assert found.samples.arrays["number"][i] == row
        assert np.array_equal(found.samples.arrays["rgb"][i], split().arrays["rgb"][row])
    assert not any("good" in id or "hole" in id for id in found.samples.ids)


def test_the_order_is_drawn_anew_for_each_category_and_the_same_again():
    assert list(blind(split(), "bagel", SALT).rows) == list(blind(split(), "bagel", SALT).rows)
    assert list(blind(split(), "bagel", SALT).rows) != list(blind(split(), "rope", SALT).rows)
    assert list(blind(split(), "bagel", SALT).rows) != list(range(20))


def test_other_data_have_other_ids_and_another_order():
    one, other = (blind(split(), "bagel", salt) for salt in (SALT, "4567cdef"))
    assert not set(one.samples.ids) & set(other.samples.ids)
    assert list(one.rows) != list(other.rows)


def test_samples_to_train_on_keep_the_order_of_their_files():
    found = blind(split(), "bagel", SALT, draw=False)
    assert list(found.rows) == list(range(20))
    assert found.samples.arrays["number"].tolist() == list(range(20))
    assert found.samples.ids == tuple(opaque_id(SALT, "bagel", id) for id in IDS)


def test_batches_of_a_drawn_split_are_its_rows():
    found = blind(split(), "bagel", SALT)
    batch = found.samples.batch([3, 0, 3])
    assert batch["number"].tolist() == list(found.rows[[3, 0, 3]])
    assert batch.ids == tuple(found.samples.ids[i] for i in (3, 0, 3))


@pytest.mark.parametrize(
    "index", [2, -1, slice(1, 3), [2, 0], (2, 1), (slice(0, 2), 1), (0, ..., 1)]
)
def test_a_drawn_array_is_indexed_like_a_plain_one(index):
    array, rows = np.random.default_rng(0).random((4, 3, 2)), np.array([2, 0, 3, 1])
    drawn = Drawn(array, rows)
    assert np.array_equal(drawn[index], array[rows][index])
    assert np.array_equal(np.asarray(drawn), array[rows])
    assert (len(drawn), drawn.shape, drawn.dtype) == (4, (4, 3, 2), array.dtype)


def test_two_samples_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two samples of bagel"):
        blind(Samples({}, ("test/good/0", "test/good/0")), "bagel", SALT)


def test_arrays_carry_no_name_of_a_file_and_stay_mapped(tmp_path):
    category = write_category(tmp_path / "data", height=64, width=80)
    build_view(category, Das3dView(size=48, plane_iterations=50), tmp_path / "view")
    for array in open_split(tmp_path / "view", "train")[0].arrays.values():
        while array is not None:
            assert not hasattr(array, "filename")
            last, array = array, getattr(array, "base", None)
        assert type(last).__name__ == "mmap"
