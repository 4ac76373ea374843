"""A few faults of each cheap kind; the slow ones are more of all of them."""

import json
import os
import random
import subprocess
import sys

import pytest

from tests.faults import campaign, kinds, scene
from tests.faults.launches import ROOT

QUICK = "kill at a change,Ctrl-C,damage,power"


def faults_of(out, names, count, seed=0, minutes=5.0, jobs=1):
    """Run a campaign as a process of its own, and see that all of its faults were survived."""
    numbers = {"count": count, "seed": seed, "minutes": minutes, "jobs": jobs}
    options = [f"--{name}={value}" for name, value in numbers.items()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.campaign", *options, "--kinds", names, "--out", out],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / "campaign.json").read_text())
    assert len(report["faults"]) == count, done.stdout
    return report


def test_a_launch_survives_a_fault_of_each_cheap_kind(tmp_path):
    report = faults_of(tmp_path, QUICK, count=4)
    assert len({fault["kind"].partition(":")[0] for fault in report["faults"]}) == 4


def test_faults_are_drawn_by_weight_and_seed():
    some = ["kill", "power", "damage"]
    first = campaign.drawn(100, 0, some)
    assert first == campaign.drawn(100, 0, some) != campaign.drawn(100, 1, some)
    assert len(first) == 100 and first.count("kill") > first.count("power") > 10


@pytest.mark.parametrize("way", kinds.DAMAGES)
def test_every_way_of_damage_changes_a_file(way, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(1, 101)))
    kinds.DAMAGES[way](path, random.Random(0))
    assert not path.is_file() or path.read_bytes() != bytes(range(1, 101))


def test_a_store_that_differs_from_the_undisturbed_one_is_told(tmp_path):
    oracle = scene.Oracle(tmp_path, b"", {"0" * 16: {}}, 1.0, 1, 1, 1)
    place = scene.Scene(scene.Fault(0, "kill"), tmp_path, oracle, random.Random(0))
    with pytest.raises(scene.NotSurvivedError) as error:
        scene.survived(place)
    assert error.value.args[0] == "lost"


def test_the_tally_counts_kinds_and_outcomes():
    faults = [scene.Fault(i, "kill", outcome=campaign.SAME) for i in range(3)]
    text = campaign.tally([*faults, scene.Fault(3, "power", outcome="stuck")])
    assert [line.split() for line in text.splitlines()] == [
        ["kind", "survived", "stuck", "all"],
        ["kill", "3", "0", "3"],
        ["power", "0", "1", "1"],
        ["all", "3", "1", "4"],
    ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_launch_survives_two_hundred_faults(tmp_path):
    faults_of(tmp_path, ",".join(kinds.KINDS), count=200, minutes=25, jobs=os.cpu_count() or 1)
