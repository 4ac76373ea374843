"""Who else uses the machine while something is timed."""

import os
import stat
from types import SimpleNamespace

import pytest
import torch

from harness.engine import alone
from harness.engine.alone import Alone, computing, others_on_card, others_on_cpus
from harness.planning.packing import CONTEXT_BYTES

CPU = torch.device("cpu")


def test_what_a_system_does_by_itself_disturbs_nobody_and_a_job_does():
    assert others_on_cpus(0.05, 2) == [] and others_on_cpus(0.7, 16) == []
    assert others_on_cpus(1.04, 2) == ["other processes keep 1.0 of 2 CPUs busy"]
    assert "does not tell" in others_on_cpus(None, 2)[0]


def test_a_card_is_shared_where_more_is_held_than_by_this_process_and_a_screen():
    ours = CONTEXT_BYTES + 2**28
    assert others_on_card(ours, None) == [] == others_on_card(ours, 1)
    assert others_on_card(ours, 2) == ["2 processes compute on the card"]
    assert others_on_card(CONTEXT_BYTES + 3e9, 1) == ["other processes hold 3.0 GB of the card"]


def test_the_work_of_this_process_is_not_that_of_others(monkeypatch):
    busy, own, now = iter([100.0, 104.0]), iter([5.0, 7.0]), iter([0.0, 2.0])
    monkeypatch.setattr(alone, "busy_s", lambda: next(busy))
    clock = SimpleNamespace(process_time=lambda: next(own), perf_counter=lambda: next(now))
    monkeypatch.setattr(alone, "time", clock)
    monkeypatch.setattr(alone.os, "cpu_count", lambda: 4)
    assert Alone(CPU).disturbed() == "other processes keep 1.0 of 4 CPUs busy"


def test_the_systems_counters_are_read_without_idle_time(monkeypatch, tmp_path):
    ticks = os.sysconf("SC_CLK_TCK")
    values = [n * ticks for n in (10, 1, 4, 900, 80, 2, 3, 5, 0, 0)]
    (tmp_path / "stat").write_text(f"cpu  {' '.join(map(str, values))}\ncpu0 1 2 3\n")
    monkeypatch.setattr(alone, "STAT", tmp_path / "stat")
    assert alone.busy_s() == 10 + 1 + 4 + 2 + 3 + 5
    monkeypatch.setattr(alone, "STAT", tmp_path / "none")
    assert alone.busy_s() is None


@pytest.mark.parametrize(
    "script, found", [("echo 12; echo 34", 2), ("true", None), ("exit 9", None)]
)
def test_processes_of_a_card_are_those_that_its_driver_lists(monkeypatch, tmp_path, script, found):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\n[ "$1" = --id=GPU-abc ] || exit 1\n{script}\n')
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    card = SimpleNamespace(uuid="abc")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    assert computing(torch.device("cuda", 0)) == found
