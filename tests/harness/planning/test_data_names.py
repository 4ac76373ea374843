"""What the content of a dataset is called in keys, and where an earlier name of it counts."""

import os
import shutil
from dataclasses import replace

import pytest

from harness.data.synthetic import PRESETS
from harness.data.synthetic.generate import write_category
from harness.planning import config
from harness.planning.expand import build
from harness.store import Store
from harness.store.names import Names
from tests.harness.conftest import TINY
from tests.harness.toy import publish


@pytest.fixture
def own(tmp_path):
    """A dataset on disk, and the keys of a plan of it as earlier versions made them."""
    write_category(
        tmp_path / "data",
        "cookie",
        replace(PRESETS["tiny"], train=2, validation=1, good=1, per_defect=1),
    )
    return tmp_path / "data"


def on(root, at=Names()):
    """at: a store, or its names"""
    names = at.filed_as if isinstance(at, Store) else at
    return build(config.load(str(TINY), ["methods=[das3d/untrained]"], str(root)), names)


def copied(root, to):
    shutil.copytree(root, to, copy_function=shutil.copyfile)  # other times
    return to


def finished(plan, store):
    """A store where all of a plan is done, as far as its keys tell."""
    for key, job in plan.jobs.items():
        publish(store, {"key": key, "spec": job.spec, "title": job.title})
    return store


def test_a_copy_elsewhere_has_the_same_keys(own, tmp_path):
    plan = on(own)
    assert on(copied(own, tmp_path / "other" / "data")).cells == plan.cells


def test_data_that_an_earlier_version_filed_by_their_listing_keep_their_keys(own, tmp_path):
    listing = next(job.place.listing for job in on(own).jobs.values() if job.place.listing)
    content = next(job.place.content for job in on(own).jobs.values() if job.place.content)
    before = on(own, Names(data={content: listing}))
    assert {job.spec.get("data") for job in before.jobs.values()} == {listing, None}
    store = finished(before, Store(tmp_path / "store"))

    plan = on(own, store)
    assert plan.cells == before.cells != on(own).cells and not plan.pending(store)
    other = copied(own, tmp_path / "other" / "data")
    assert on(other, store).pending(store)  # nobody has told the store yet
    plan.record(store)
    assert on(other, store).cells == before.cells

    path = next((own / "cookie" / "train" / "good" / "rgb").iterdir())
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert on(own, store).pending(store)  # the listing is the old one, the bytes are not
