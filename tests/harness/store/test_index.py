"""What a store knows without reading records, and when it does not believe it."""

import os
import random

import pytest

from harness.store import DAMAGED, DamagedError, Record, Store
from harness.store.alike import alike
from harness.store.index import FILE, SLACK
from harness.store.records import RESULT
from harness.store.specs import Spec
from tests.harness import toy


@pytest.fixture
def jobs(tmp_path):
    store, made = Store(tmp_path), [toy.job(f"job {i}") for i in range(5)]
    for job in made:
        (store.work(job.key) / "maps.npy").write_bytes(b"0123456789")
        (store.work(job.key) / "model").mkdir()
        (store.work(job.key) / "model" / "mean.pt").write_bytes(b"0123456789")
        toy.publish(store, job.describe())
        assert store.done(job.key)
    store.index.flush()
    return made


@pytest.fixture
def read(monkeypatch):
    """The records that are read from files, by key."""
    found, plain = [], Record.read.__func__
    monkeypatch.setattr(
        Record,
        "read",
        classmethod(lambda cls, path: found.append(path.parent.name) or plain(cls, path)),
    )
    return found


def test_a_job_that_is_known_to_be_done_is_passed_over_without_reading_its_record(
    tmp_path, jobs, read
):
    store = Store(tmp_path)
    assert all(store.done(job.key) for job in jobs)
    assert not read
    assert store.finished(jobs[0].key).title == "job 0"
    assert read == [jobs[0].key]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "maps.npy").unlink(),
        lambda folder: (folder / "model" / "mean.pt").unlink(),
        lambda folder: os.replace(folder / "maps.npy", folder / "model" / "maps.npy"),
        lambda folder: _replaced(folder / "maps.npy", b"01234"),
        lambda folder: (folder / RESULT).write_text("{}"),
        lambda folder: (folder / RESULT).unlink(),
    ],
)
def test_a_known_job_whose_files_changed_is_not_done(tmp_path, jobs, change):
    change(Store(tmp_path).folder(jobs[2].key))
    assert [Store(tmp_path).done(job.key) for job in jobs] == [True, True, False, True, True]


def _replaced(path, content):
    """As programs write: a new file takes the place of the old one."""
    path.with_suffix(".new").write_bytes(content)
    os.replace(path.with_suffix(".new"), path)


def test_a_file_cut_short_where_it_lies_is_found_by_whoever_reads_the_record(tmp_path, jobs):
    (Store(tmp_path).folder(jobs[2].key) / "maps.npy").write_bytes(b"01234")
    store = Store(tmp_path)
    assert store.done(jobs[2].key)  # by its folder, which is as it was
    found = store.result(jobs[2].key)
    assert found.status == DAMAGED and "maps.npy has 5 bytes and should have 10" in found.reason
    with pytest.raises(DamagedError):
        store.finished(jobs[2].key)


def test_a_known_job_costs_a_look_at_its_record_and_one_at_each_folder(tmp_path, jobs, monkeypatch):
    store, looks, plain = Store(tmp_path), [], os.stat
    assert store.done(jobs[0].key)  # reads the index
    monkeypatch.setattr(os, "stat", lambda path, **more: looks.append(path) or plain(path, **more))
    assert store.done(jobs[1].key)
    assert len(looks) == 3


def test_a_record_with_other_bytes_of_the_same_size_and_time_is_read_again(tmp_path, jobs):
    path = Store(tmp_path).folder(jobs[0].key) / RESULT
    before = path.stat()
    text = path.read_bytes()
    path.write_bytes(text.replace(b"job 0", b"job X"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not Store(tmp_path).done(jobs[0].key)
    with pytest.raises(DamagedError):
        Store(tmp_path).finished(jobs[0].key)


def test_whatever_befalls_the_index_only_costs_reading(tmp_path, jobs, read):
    path, draw = tmp_path / FILE, random.Random(0)
    sound = path.read_bytes()
    for text in (b"", b"relief index 0\n" + sound, sound[: len(sound) // 2], sound * 2, None):
        path.unlink() if text is None else path.write_bytes(text)
        assert all(Store(tmp_path).done(job.key) for job in jobs)
    for _ in range(200):  # one byte each: never a job done that is not, never one undone
        torn = bytearray(sound)
        torn[draw.randrange(len(torn))] ^= 1 << draw.randrange(8)
        path.write_bytes(torn)
        store = Store(tmp_path)
        assert all(store.done(job.key) for job in jobs)
        assert not store.done("0" * 16)
    read.clear()
    path.unlink()
    store = Store(tmp_path)
    assert all(store.done(job.key) for job in jobs) and len(read) == 5
    store.index.flush()
    read.clear()
    assert all(Store(tmp_path).done(job.key) for job in jobs) and not read


def test_lines_of_no_use_are_dropped(tmp_path, jobs):
    store = Store(tmp_path)
    (line,) = [x for x in (tmp_path / FILE).read_bytes().splitlines(True) if b"job" not in x][:1]
    rows = (tmp_path / FILE).read_bytes().splitlines(True)
    (tmp_path / FILE).write_bytes(line + rows[1] * (SLACK + 10) + b"".join(rows[2:]))
    store.remove(store.folder(jobs[4].key))
    another = toy.job("another")
    toy.publish(store, another.describe()) if store.work(another.key) else None
    assert store.done(another.key)
    store.index.flush()
    assert len((tmp_path / FILE).read_bytes().splitlines()) == 1 + 5


def test_a_store_that_cannot_be_written_goes_without_an_index(tmp_path, jobs, monkeypatch):
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    store = Store(tmp_path)
    assert all(store.done(job.key) for job in jobs)
    store.index.flush()


def test_stamps_tell_what_changed_since_then(tmp_path, jobs):
    store = Store(tmp_path)
    keys = [job.key for job in jobs] + ["0" * 16]
    before = store.stamps(keys)
    assert set(before) == set(keys[:5]) and store.stamps(keys) == before
    store.fail("0" * 16, {"key": "0" * 16, "status": "failed"})
    toy.publish(store, jobs[1].describe()) if store.work(jobs[1].key) else None
    now = store.stamps(keys)
    assert {key for key in keys if now[key] != before.get(key)} == {keys[1], keys[5]}


def test_what_jobs_took_is_known_without_reading_them(tmp_path, jobs, read):
    taken = list(Store(tmp_path).taken())
    assert len(taken) == 5 and not read
    assert {one.seconds for one in taken} == {0.0}


def test_points_of_a_loss_weight_are_alike_and_sizes_are_not():
    def of(**settings):
        return alike(Spec({"kind": "cell", "method": "das3d", "settings": {"net": settings}}))

    assert of(w_rgb=1.0, width=8) == of(w_rgb=0.5, width=8)
    assert of(w_rgb=1.0, width=8) != of(w_rgb=1.0, width=16)
    assert of(w_rgb=1.0, bf16=True) != of(w_rgb=1.0, bf16=False)
