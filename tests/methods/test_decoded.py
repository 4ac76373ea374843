"""Images that are decoded once: what is kept is what decoding gives, whatever happens to it."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from methods.blocks import decoded
from methods.blocks.decoded import Decoded

SIZE, COUNT = 5, 12  # 75 bytes an image: no whole words
ALL = [*range(COUNT)]


class Images:
    """Files that hold a number each, which are "decoded" to the image of that number."""

    def __init__(self, folder):
        self.files, self.decoded = [folder / f"{i}.txt" for i in ALL], []
        for i, file in enumerate(self.files):
            file.write_text(str(i))

    def decode(self, index):
        self.decoded.append(index)
        return self.true(index)

    def true(self, index):
        rng = np.random.default_rng(int(self.files[index].read_text()))
        return rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)

    def of_a_job(self):
        return Decoded(self.files, SIZE, self.decode)

    def check(self, job):
        """-> what was decoded to get all of them right."""
        self.decoded.clear()
        for index in ALL:
            assert np.array_equal(job(index), self.true(index))
        return list(self.decoded)


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.setenv("RELIEF_CACHE", str(tmp_path / "cache"))
    return Images(tmp_path)


def test_an_image_is_decoded_once_for_all_jobs(images):
    first, beside = images.of_a_job(), images.of_a_job()
    assert images.check(first) == ALL
    assert images.check(first) == images.check(beside) == images.check(images.of_a_job()) == []


def test_an_image_that_changed_is_decoded_anew(images):
    job = images.of_a_job()
    images.check(job)
    images.files[3].write_text("7")  # as long as before
    assert images.check(job) == [3] and images.check(job) == []


@pytest.mark.parametrize("keep", [0, 40, 150])
def test_what_was_torn_is_decoded_anew(images, keep, tmp_path):
    """As a power cut leaves it: all behind the first bytes are zeros, or the file ends there."""
    job = images.of_a_job()
    images.check(job)
    (file,) = (tmp_path / "cache").iterdir()
    os.truncate(file, keep)
    os.truncate(file, job.record * COUNT - 8)
    torn = ALL[keep // job.record :]
    assert images.check(job) == torn and images.check(images.of_a_job()) == []


def test_any_changed_byte_is_found(images, tmp_path):
    job = images.of_a_job()
    images.check(job)
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    for place in range(job.record):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        file.write_bytes(damaged)
        assert images.check(job) == [0]


def test_the_first_so_many_are_kept_as_the_disk_has_room(images, monkeypatch):
    record = images.of_a_job().record
    monkeypatch.setenv(decoded.GIB, str(4.5 * record / 2**30))
    job = images.of_a_job()
    images.check(job)
    assert images.check(job) == ALL[4:]
    for given in ("much", "nan", "-1"):
        monkeypatch.setenv(decoded.GIB, given)
        with pytest.raises(ValueError, match=f"RELIEF_IMAGES_GIB is '{given}'.* such as 4"):
            images.of_a_job()


def test_other_images_or_sizes_are_kept_apart(images, tmp_path):
    images.check(images.of_a_job())
    Decoded(images.files[:5], SIZE, images.decode)
    Decoded(images.files, SIZE + 1, images.decode)
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_without_room_images_are_decoded_each_time_and_it_is_told(images, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    job = images.of_a_job()
    monkeypatch.setattr(decoded.os, "pwrite", full)
    with caplog.at_level(logging.WARNING):
        assert images.check(job) == images.check(job) == ALL
    assert caplog.text.count("No space left") == 1


def test_without_a_cache_images_are_decoded_each_time_and_it_is_told(images, monkeypatch, caplog):
    monkeypatch.setenv("RELIEF_CACHE", str(images.files[0]))  # no folder
    with caplog.at_level(logging.WARNING):
        job = images.of_a_job()
    assert images.check(job) == images.check(job) == ALL
    assert "decoded at each use" in caplog.text


def test_threads_get_the_right_images(images):
    job = images.of_a_job()
    with ThreadPoolExecutor(8) as pool:
        for index, found in zip(ALL * 20, pool.map(job, ALL * 20)):
            assert np.array_equal(found, images.true(index))
