"""The power goes while a launch writes: an ext4 image that loses whatever was not flushed to it."""

import os

import pytest

from tests.faults import mounts
from tests.faults.test_campaign import faults_of

mounting = pytest.mark.skipif(mounts.why_not() is not None, reason=str(mounts.why_not()))


@mounting
def test_an_image_forgets_what_was_not_synced(tmp_path):
    with mounts.Disk(tmp_path / "disk") as disk:
        (disk.folder / "kept").write_bytes(b"kept")
        with open(disk.folder / "kept") as file:
            os.fsync(file.fileno())
        (disk.folder / "lost").write_bytes(b"lost")
        disk.cut()
        disk.power_up()
        assert [p.name for p in disk.folder.iterdir() if p.is_file()] == ["kept"]
        assert (disk.folder / "kept").read_bytes() == b"kept"


def test_samples_whose_bytes_a_power_cut_took_are_drawn_again(tmp_path):
    from harness.data.synthetic.part import Part

    part = Part(tmp_path)
    part.work.mkdir()
    part.tree.mkdir()
    part.write(part.tree / "a.png", b"pixels")
    part.finish_sample("train", "good", 0, {"angle": 1}, ["a.png"])
    assert part.has_sample("train", "good", 0) and part.drawn("train", "good", 0) == {"angle": 1}
    (part.tree / "a.png").write_bytes(b"")  # its name got there, its bytes did not
    assert not part.has_sample("train", "good", 0)


@pytest.mark.slow
@mounting
def test_a_launch_goes_on_after_each_of_fifty_power_cuts(tmp_path):
    faults_of(tmp_path, "power", count=50, minutes=9)
