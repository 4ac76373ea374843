"""How float32 is computed on a GPU: chosen by name, part of keys, said in records."""

from types import SimpleNamespace

import pytest
import torch

from harness.engine import numerics
from tests.harness.conftest import planned


@pytest.fixture(autouse=True)
def as_before():
    yield
    numerics.settle({})


def test_the_default_is_what_the_cpu_computes_and_a_job_leaves_nothing_to_the_next():
    numerics.settle({"tf32": True, "deterministic": True})
    assert torch.are_deterministic_algorithms_enabled()
    for part in (torch.backends.cudnn.conv, torch.backends.cuda.matmul):
        numerics.settle({"tf32": True})
        assert part.fp32_precision == "tf32" and not torch.are_deterministic_algorithms_enabled()
        numerics.settle({})
        assert part.fp32_precision == "ieee"


def test_a_choice_is_part_of_the_keys_of_what_it_changes_and_the_default_of_none():
    m3dm = [
        "methods=[m3dm]",
        "m3dm.weights={rgb: random-init, point: random-init}",
        "settings=[rgb]",
    ]
    usual, chosen = planned(*m3dm), planned(*m3dm, "numerics.tf32=true")
    assert list(planned(*m3dm, "numerics.tf32=false").jobs) == list(usual.jobs)
    for kind in ("dataset", "view", "truth", "stage", "cell"):
        keys = [
            {k for k, job in p.jobs.items() if job.spec["kind"] == kind} for p in (usual, chosen)
        ]
        assert keys[0] == keys[1] if kind in ("dataset", "view", "truth") else not keys[0] & keys[1]
    assert {str(job.spec.get("numerics")) for job in chosen.jobs.values()} == {
        "None",
        "{'tf32': True}",
    }


@pytest.mark.parametrize(
    "line, version",
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.82.07  Wed\n", "580.82.07"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57 Release Build\n",
            "575.57",
        ),
        ("something else", None),
    ],
)
def test_the_driver_is_read_where_the_system_tells(tmp_path, monkeypatch, line, version):
    (tmp_path / "version").write_text(line)
    monkeypatch.setattr(numerics, "DRIVER", tmp_path / "version")
    assert numerics.driver() == version
    monkeypatch.setattr(numerics, "DRIVER", tmp_path / "none")
    assert numerics.driver() is None


def test_nothing_of_it_is_said_of_the_cpu():
    assert numerics.described(torch.device("cpu")) == {}


@pytest.mark.parametrize(("capability", "has"), [((7, 5), False), ((8, 0), True)])
def test_tf32_is_said_of_cards_that_have_it(monkeypatch, capability, has):
    card = SimpleNamespace(major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    numerics.settle({"tf32": True})
    assert numerics.described(torch.device("cuda"))["tf32"] is has
    numerics.settle({})
    assert numerics.described(torch.device("cuda"))["tf32"] is False
