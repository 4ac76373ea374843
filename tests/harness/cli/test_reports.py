"""relief report and compare: which stores and launches, and what scripts read of them."""

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from tests.reports.fake_store import build_launch


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)
    methods = (("das3d", ""), ("m3dm", ""))
    made = build_launch(tmp_path / "store", methods, ("rgb",), ("cookie",), (0, 1), arrays=False)
    return made[0].path


def test_a_launch_in_the_place_of_a_store_is_told_the_right_form(store):
    done = CliRunner().invoke(app, ["report", str(store), "fake-00000000"])
    assert f"relief report {store} --launch fake-00000000" in str(done.exception)
