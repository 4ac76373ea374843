import os

import pytest

from tests.reports.fake_store import build_launch


@pytest.fixture
def build(tmp_path, monkeypatch):
    """build(**choices) -> store, launch; see fake_store.build_launch."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no power cut in here, and it is slow
    return lambda **choices: build_launch(tmp_path / "store", **choices)
