"""The order of jobs, the room for them, and how well it fills it."""

import random

import pytest

from harness.planning.costs import ranks
from harness.planning.jobs import Resources
from harness.planning.makespan import bounds, makespan, simulate
from harness.planning.queue import PASSES, Queue
from harness.planning.room import Offer, Room
from tests.harness import toy


def anything(resources):
    return True


def dag(draw, count, most=3, **resources):
    jobs = []
    for i in range(count):
        needs = tuple(draw.sample(jobs, min(len(jobs), draw.randrange(most))))
        jobs.append(toy.job(f"job {i}", needs=needs, **resources))
    return jobs


class Slow:
    """The same by looking at every job every time."""

    def __init__(self, jobs, rank):
        self.jobs, self.rank = jobs, rank
        self.waiting, self.running = [], set()

    def pop(self):
        open_ = {job.key for job in self.waiting} | self.running
        ready = [job for job in self.waiting if not open_ & set(job.needs)]
        if not ready:
            return None
        job = max(ready, key=lambda job: (self.rank[job.key], -self.jobs.index(job)))
        self.waiting.remove(job)
        self.running.add(job.key)
        return job

    def withdraw(self, key):
        lost = {key}
        for job in self.jobs:  # each after its needs
            if job in self.waiting and lost & set(job.needs):
                lost.add(job.key)
        self.waiting = [job for job in self.waiting if job.key not in lost]
        return lost - {key}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_to_jobs_the_queue_gives_the_same_as_a_look_at_all_of_them(seed):
    draw = random.Random(seed)
    jobs = dag(draw, 40)
    known = {job.key: job for job in jobs}
    rank = {job.key: float(draw.randrange(5)) for job in jobs}
    queue, slow = Queue(jobs, rank), Slow(jobs, rank)
    for job in jobs:
        queue.add(job)
        slow.waiting.append(job)
    done = []
    for _ in range(2000):
        for _ in range(draw.randrange(3)):
            one, other = queue.pop(anything), slow.pop()
            assert one is other
        if not slow.running:
            if not slow.waiting:
                break
            continue
        key = draw.choice(sorted(slow.running))
        what = draw.choice(["done"] * 6 + ["again", "fail", "undone"])
        slow.running.discard(key)
        if what == "done":
            queue.close(key)
            done.append(key)
        elif what == "again":
            queue.add(known[key])
            slow.waiting.append(known[key])
        elif what == "fail":
            assert {job.key for job in queue.withdraw(key)} == slow.withdraw(key)
        else:  # what it is built on was damaged: both wait again
            below = [need for need in known[key].needs if need in done][:1]
            for again in [key, *below]:
                queue.add(known[again])
                slow.waiting.append(known[again])
                done = [k for k in done if k != again]
        assert set(queue.waiting) == {job.key for job in slow.waiting}
    assert not queue.waiting


def test_a_job_that_does_not_fit_is_passed_by_others_a_bounded_number_of_times():
    jobs = [toy.job("large", gpus=1.0)] + [toy.job(f"small {i}", gpus=0.5) for i in range(30)]
    queue = Queue(jobs, {jobs[0].key: 1.0})
    for job in jobs:
        queue.add(job)
    small = [queue.pop(lambda r: r.gpus < 1) for _ in range(30)]
    assert [job.title for job in small if job] == [f"small {i}" for i in range(PASSES)]
    assert queue.pop(anything).title == "large"


def test_a_job_reserves_what_is_known_when_it_starts():
    jobs = [toy.job(f"job {i}", gpus=0.5) for i in range(3)]
    now = {"share": 0.5}
    queue = Queue(jobs, {}, lambda job: Resources(gpus=now["share"]))
    for job in jobs:
        queue.add(job)
    assert queue.pop(anything).resources.gpus == 0.5
    now["share"] = 0.2
    assert [queue.pop(anything).resources.gpus for _ in range(2)] == [0.2, 0.2]


def test_shares_are_packed_on_few_cards_and_two_halves_are_no_whole():
    room = Room([Offer(8, 2, 100), Offer(8, 1, 100)])
    for name in "abc":
        assert room.take(name, Resources(gpus=0.5))
    assert room.fits(Resources(gpus=1.0)) and not room.fits(Resources(gpus=2.0))
    assert room.take("d", Resources(gpus=1.0))
    assert not room.fits(Resources(gpus=1.0)) and room.fits(Resources(gpus=0.5))
    room.leave("a")
    room.leave("c")
    assert room.take("e", Resources(gpus=1.0))
    assert not room.fits(Resources(gpus=1.0))


def test_room_is_counted_in_cpus_memory_and_jobs_and_comes_back():
    room = Room([Offer(4, 0, 10.0, jobs=3)])
    assert room.take("a", Resources(cpus=2, memory_gb=6))
    assert not room.fits(Resources(cpus=3)) and not room.fits(Resources(memory_gb=5))
    assert room.take("b", Resources()) and room.take("c", Resources(memory_gb=1))
    assert not room.fits(Resources(memory_gb=0.1))
    for name in "abc":
        room.leave(name)
    assert room.fits(Resources(cpus=4, memory_gb=10))
    assert room.memory_for(Resources()) == 10 and room.memory_for(Resources(gpus=1)) == 0


def test_jobs_keep_what_they_hold_when_nodes_come_and_go():
    room = Room([Offer(4, 1, 10)])
    room.take("a", Resources(gpus=1.0))
    room.update([Offer(4, 1, 10), Offer(4, 1, 10)])
    assert room.take("b", Resources(gpus=1.0)) and not room.fits(Resources(gpus=0.1))
    room.update([Offer(4, 1, 10)])
    room.leave("a")
    room.leave("b")
    assert room.fits(Resources(cpus=4, gpus=1.0, memory_gb=10))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("gpus", [1, 4, 16])
def test_longest_path_first_is_within_a_tenth_of_what_no_schedule_is_below(seed, gpus):
    """Layers as benchmarks have them: views, stages, cells; hundreds of jobs."""
    draw = random.Random(seed)
    views = [toy.job(f"view {i}", gpus=0.5) for i in range(10)]
    stages = [
        toy.job(f"stage {i}", needs=tuple(draw.sample(views, draw.randrange(1, 10))), gpus=0.5)
        for i in range(5)
    ]
    cells = []
    for i in range(600):  # two of five methods build on stages
        needs = (draw.choice(views), *draw.sample(stages, i % 5 < 2))
        cells.append(toy.job(f"cell {i}", needs=needs, gpus=0.5))
    jobs, offers = views + stages + cells, [Offer(64, gpus, 1000)]
    seconds = {job.key: draw.uniform(1, 100) for job in jobs}
    seconds |= {job.key: draw.uniform(100, 1000) for job in stages}
    slots = simulate(jobs, seconds, offers, ranks(jobs, lambda job: seconds[job.key]))
    assert len(slots) == len(jobs)
    least = bounds(slots, offers)
    assert least.least * (1 - 1e-9) <= makespan(slots) <= 1.1 * least.least


def test_the_simulation_keeps_to_order_and_to_room():
    draw = random.Random(1)
    jobs, offers = dag(draw, 200, gpus=0.4, memory_gb=3.0), [Offer(4, 2, 10.0)]
    seconds = {job.key: draw.uniform(1, 5) for job in jobs}
    slots = simulate(jobs, seconds, offers, {})
    ended = {slot.job.key: slot.end for slot in slots}
    for slot in slots:
        assert all(ended[need] <= slot.start for need in slot.job.needs)
        beside = [s for s in slots if s.start <= slot.start < s.end]
        assert sum(s.job.resources.memory_gb for s in beside) <= 10 and len(beside) <= 4


def test_a_long_chain_goes_before_many_short_jobs():
    chain = [toy.job("chain 0")]
    for i in range(1, 5):
        chain.append(toy.job(f"chain {i}", needs=(chain[-1],)))
    jobs = [toy.job(f"short {i}") for i in range(15)] + chain
    seconds = {job.key: 10.0 if job in chain else 1.0 for job in jobs}
    offers = [Offer(2)]
    longest = simulate(jobs, seconds, offers, ranks(jobs, lambda job: seconds[job.key]))
    in_order = simulate(jobs, seconds, offers, {})
    assert makespan(longest) == 50 and makespan(in_order) == 57
