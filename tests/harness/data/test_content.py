import os
import shutil
from dataclasses import replace

import pytest

from harness.data import content as module
from harness.data.check import check
from harness.data.content import content, contents, rotten
from harness.data.datasets import open_dataset
from harness.data.samples import fingerprint
from harness.data.synthetic import PRESETS
from harness.data.synthetic.generate import write_category


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("RELIEF_CACHE", str(tmp_path / "cache"))
    write_category(
        tmp_path / "data",
        "cookie",
        replace(PRESETS["tiny"], train=2, validation=1, good=1, per_defect=1),
    )
    return tmp_path / "data"


def opened(root):
    return open_dataset("auto", root).category("cookie")


def test_a_copy_with_other_times_elsewhere_has_the_same_content(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    one, other = opened(root), opened(tmp_path / "copy")
    assert content(one) == content(other) and fingerprint(one) != fingerprint(other)


def test_a_changed_byte_with_the_old_size_and_time_is_other_content(root):
    before, listing = content(opened(root)), fingerprint(opened(root))
    path = opened(root).files()[0]
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fingerprint(opened(root)) == listing
    assert content(opened(root)) != before


def test_names_are_part_of_the_content(root):
    before, path = content(opened(root)), opened(root).files()[0]
    path.rename(path.with_name(f"renamed{path.suffix}"))
    assert content(opened(root)) != before


def test_what_is_known_is_read_once_and_what_changes_again(root, monkeypatch):
    read = []
    monkeypatch.setattr(module, "checksum", lambda p, of=module.checksum: read.append(p) or of(p))
    before, files = content(opened(root)), opened(root).files()
    assert sorted(read) == sorted(files)
    assert content(opened(root)) == before and len(read) == len(files)
    os.utime(files[3])
    assert content(opened(root)) == before and read[len(files) :] == [files[3]]


def test_much_to_read_is_told(root, monkeypatch):
    monkeypatch.setattr(module, "MUCH", 1)
    told = []
    contents([opened(root)], told.append)
    assert f"in {root} to know the data by their content" in told[0]
    contents([opened(root)], told.append)
    assert len(told) == 1


def test_a_file_that_cannot_be_read_has_content_of_its_own(root):
    before, path = content(opened(root)), opened(root).files()[0]
    path.unlink()
    path.symlink_to("nowhere")
    assert content(opened(root)) != before


def test_bytes_that_a_disk_changed_by_itself_are_told_by_a_check(root, monkeypatch):
    content(opened(root))
    assert rotten(opened(root)) == []
    path = opened(root).files()[0]
    real = module.checksum  # no test can change a byte without its file's time of change
    monkeypatch.setattr(module, "checksum", lambda p: "other" if p == path else real(p))
    (problem,) = [p for p in check(open_dataset("auto", root)).problems if p.severity == "error"]
    assert problem.file == str(path.relative_to(root)) and "other bytes" in problem.problem
