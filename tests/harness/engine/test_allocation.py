"""Memory that runs out, processes that lost their GPU, and what records say of either."""

import errno
from dataclasses import replace

import pytest
import torch

from harness.engine import job as engine_job
from harness.engine.allocation import ONE, bound, breaks_cuda, ran_out, remedy
from harness.engine.driver import Driver
from harness.engine.executors import InProcess, LostError
from harness.engine.job import run_job
from harness.engine.outcomes import BROKEN
from harness.planning.config import Schedule
from harness.planning.jobs import Resources
from harness.planning.packing import GIB
from harness.planning.room import Offer
from harness.store import FAILED, OUT_OF_MEMORY, Store
from tests.harness import toy

ILLEGAL = "CUDA error: an illegal memory access was encountered"


@pytest.mark.parametrize(
    ("error", "memory", "broken"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "card", False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "card", True),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), "card", True),
        (RuntimeError("CUDA error: out of memory"), "card", True),
        (RuntimeError("CUDA driver error: out of memory"), "card", True),
        (
            RuntimeError("cuDNN: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
            "card",
            True,
        ),
        (RuntimeError("cusparse: CUSPARSE_STATUS_ALLOC_FAILED"), "card", True),
        (torch.AcceleratorError("CUDA error: out of memory"), "card", True),
        (torch.AcceleratorError("of a kind that nobody has named"), "", True),
        (
            RuntimeError("OpenCV(4.1) alloc.cpp: error: (-4:Insufficient memory) Failed"),
            "host",
            False,
        ),
        (MemoryError(), "host", False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: "), "host", False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "host", False),
        (RuntimeError(ILLEGAL), "", True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "", True),
        (ValueError("CUDA is a word"), "", False),
        (OSError(errno.ENOSPC, "No space left on device"), "", False),
    ],
)
def test_errors_of_any_library_say_which_memory_ran_out_and_whether_cuda_is_lost(
    error, memory, broken
):
    assert ran_out(error) == memory and breaks_cuda(error) == broken
    try:
        try:
            raise error
        except Exception as cause:
            raise ValueError("a stage that wraps it") from cause
    except ValueError as wrapped:
        assert ran_out(wrapped) == memory and breaks_cuda(wrapped) == broken


@pytest.fixture
def raising(monkeypatch):
    """Cells raise this; the process is as new after the test."""
    monkeypatch.setattr(engine_job, "broken", "")

    def set_error(error):
        def deeper(task, depth):
            return deeper(task, depth - 1) if depth else 1 / 0 if error is None else throw(error)

        monkeypatch.setitem(engine_job.RUNNERS, "cell", lambda task: deeper(task, 50))

    return set_error


def throw(error):
    raise error


def test_the_record_of_a_failure_has_its_whole_traceback(tmp_path, raising):
    raising(None)
    job = toy.job("a")
    Driver(toy.plan(job), Store(tmp_path), InProcess(), Schedule()).run()
    log = Store(tmp_path).result(job.key).log
    assert "Traceback (most recent call last):" in log[0]
    assert log[-1] == "ZeroDivisionError: division by zero"
    assert "NoneType: None" not in log


def test_out_of_memory_of_the_card_is_told_from_that_of_the_host(tmp_path, raising):
    raising(torch.OutOfMemoryError("CUDA out of memory."))
    outcome = run_job(toy.job("a").describe(), str(tmp_path))
    assert (outcome.status, outcome.of_card) == (OUT_OF_MEMORY, True)
    raising(MemoryError("no more"))
    outcome = run_job(toy.job("b").describe(), str(tmp_path))
    assert (outcome.status, outcome.of_card) == (OUT_OF_MEMORY, False)


def test_a_job_that_ran_out_of_memory_says_what_it_had_and_what_lowers_it(tmp_path, raising):
    cell = toy.job("a")
    settings = {"train": {"batch": 8, "steps": 3}, "batch": 2, "prep": {"size": 8}}
    spec = {**cell.spec, "kind": "cell", "method": "das3d", "settings": settings}
    job = replace(cell, spec=spec, resources=Resources(gpus=0.25, memory_gb=6))
    protocol = f"protocol.batch ({job.place.protocol.batch})"
    said = remedy("card", job, RuntimeError())
    assert said.startswith(
        "the job had 0.25 of a card; lower das3d.train.batch (8), das3d.batch (2)"
    )
    assert protocol in said and said.endswith("resources.das3d.gpus")
    said = remedy("host", job, RuntimeError())
    assert "had 6 GB of memory reserved" in said and said.endswith("resources.das3d.memory_gb")
    alone = torch.OutOfMemoryError("CUDA out of memory")
    alone.add_note(ONE)  # of predictions in batches of half the size, down to one
    said = remedy("card", job, alone)
    assert "a single sample" in said and "batch" not in said and said.endswith("das3d.gpus")
    raising(MemoryError("no more"))
    here = replace(job, resources=Resources(memory_gb=6))
    outcome = run_job(here.describe(), str(tmp_path))
    assert outcome.reason.startswith("MemoryError: no more [the job had 6 GB")


def test_a_process_that_had_a_cuda_error_computes_nothing_more(tmp_path, raising):
    raising(RuntimeError(ILLEGAL))
    assert run_job(toy.job("a").describe(), str(tmp_path)).status == FAILED
    outcome = run_job(toy.job("b").describe(), str(tmp_path))
    assert outcome.status == BROKEN and "illegal memory access" in outcome.reason
    assert not (tmp_path / "alive").exists() or not list((tmp_path / "alive").iterdir())


def test_a_launch_in_a_process_that_had_a_cuda_error_ends_and_says_why(tmp_path, raising):
    raising(RuntimeError(ILLEGAL))
    store, jobs = Store(tmp_path), [toy.job("a"), toy.job("b")]
    with pytest.raises(LostError, match="CUDA error"):
        Driver(toy.plan(*jobs), store, InProcess(), Schedule()).run()
    assert store.result(jobs[0].key).status == FAILED and store.result(jobs[1].key) is None


def test_a_job_that_came_to_a_broken_process_is_tried_elsewhere_at_no_cost(tmp_path):
    attempts = []

    class Elsewhere(InProcess):
        offers = (Offer(2, jobs=1),)

        def poll(self, timeout):
            job, store_path, attempt = self.queue.pop(0)
            attempts.append(attempt)
            if len(attempts) < 3:
                from harness.engine.outcomes import Outcome

                return [Outcome(job.key, BROKEN, "process 7 had a CUDA error")]
            return [toy.task(job.describe(), store_path, attempt)]

    Driver(toy.plan(toy.job("a")), Store(tmp_path), Elsewhere(), Schedule(retries=0)).run()
    assert attempts == [1, 1, 1]


@pytest.mark.parametrize(("share", "fraction"), [(1.0, 1.0), (0.5, 0.494), (0.004, 0.002)])
def test_a_share_of_a_card_bounds_what_torch_may_take_of_it(monkeypatch, share, fraction):
    class Card:
        total_memory = 100 * GIB

    given = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: Card)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", given.append)
    bound(share)
    assert given == [pytest.approx(fraction)]
