"""What jobs reserve, by what those alike took."""

import pytest

from harness.planning import config
from harness.planning.costs import UNKNOWN, Durations
from harness.planning.jobs import Job, Place, Resources
from harness.planning.packing import CONTEXT_BYTES, GIB, Packing
from harness.store.alike import Taken

CARD = 100 * GIB
DECLARED = Resources(cpus=2, gpus=0.5, memory_gb=16.0)


def job(width=8, weight=1.0, resources=DECLARED, category="bagel", twin=""):
    settings = {"width": width, "weight": weight}
    spec = {"kind": "cell", "method": "m", "category": category, "settings": settings, "needs": {}}
    return Job(spec, "a cell", Place(twin=twin), resources)


def taken(job, host=2 * GIB, card=10 * GIB, seconds=60.0):
    return Taken(job.alike, job.about.category, seconds, host, int(card - CONTEXT_BYTES), CARD)


def test_the_first_of_a_kind_has_what_is_declared_and_later_ones_what_it_took_with_a_margin():
    packing = Packing(0.2)
    assert packing.reserve(job()) == DECLARED
    packing.learn([taken(job())])
    measured = packing.reserve(job(weight=0.5, category="cookie"))
    assert (measured.gpus, measured.memory_gb) == (pytest.approx(0.12), 2.5)
    assert (measured.cpus, measured.hours) == (DECLARED.cpus, DECLARED.hours)
    assert packing.reserve(job(width=16)) == DECLARED


def test_the_highest_peak_counts_and_never_more_than_a_card_and_a_node():
    packing = Packing(0.2, memory_for=lambda resources: 30.0)
    packing.learn([taken(job(), card=20 * GIB), taken(job(), card=10 * GIB, host=1)])
    assert packing.reserve(job()).gpus == pytest.approx(0.24)
    packing.learn([taken(job(), card=95 * GIB, host=29 * GIB)])
    assert packing.reserve(job()).gpus == 1.0 and packing.reserve(job()).memory_gb == 30.0


def test_a_job_on_the_cpu_stays_there_and_one_of_several_cards_keeps_them():
    packing = Packing(0.2)
    packing.learn([taken(job())])
    assert packing.reserve(job(resources=Resources(gpus=0.0))).gpus == 0
    assert packing.reserve(job(resources=Resources(gpus=2.0))).gpus == 2


def test_what_is_unknown_leaves_what_is_declared():
    packing = Packing(0.2)
    packing.learn([Taken(job().alike, "bagel", 5.0)])
    assert packing.reserve(job()) == DECLARED


def test_an_entry_of_its_own_is_reserved_as_it_is_unless_it_says_otherwise():
    loaded = config.load("demo", ["resources.default.gpus=0.5", "resources.m3dm.gpus=0.3"])
    assert loaded.resources_of("m3dm").fixed and not loaded.resources_of("das3d").fixed
    packing = Packing(0.2)
    fixed = job(resources=loaded.resources_of("m3dm"))
    packing.learn([taken(fixed)])
    assert packing.reserve(fixed).gpus == 0.3
    loaded = config.load("demo", ["resources.m3dm.gpus=0.3", "resources.m3dm.fixed=false"])
    assert packing.reserve(job(resources=loaded.resources_of("m3dm"))).gpus == pytest.approx(0.12)


def test_views_and_made_data_reserve_no_gpu_unless_their_entry_says_so():
    loaded = config.load("demo", ["resources.default.gpus=0.5"])
    assert loaded.resources_of("dataset").gpus == loaded.resources_of("view").gpus == 0
    assert config.load("demo", ["resources.view.gpus=0.5"]).resources_of("view").gpus == 0.5


def test_durations_are_those_of_the_category_then_of_jobs_alike_then_a_models_then_guesses():
    durations = Durations([taken(job()), taken(job(category="cookie"), seconds=100.0)])
    assert durations.of(job()) == 60 and durations.of(job(category="cookie")) == 100
    assert durations.of(job(category="rope")) == 80
    assert durations.of(job(width=16)) == UNKNOWN["cell"]
    assert durations.measured(job(width=16)) is None
    assert Durations(model=lambda job: 5.0).of(job()) == 5
    assert Durations(model=lambda job: 5.0).sourced(job()) == (5, "model")
    assert durations.of(job(twin="0" * 16)) < 60
