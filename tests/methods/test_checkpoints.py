"""Checkpoints are written beside a fit: whole, of one moment, seldom enough, never in silence."""

import threading
from collections import OrderedDict

import pytest
import torch

from methods import checkpoints
from methods.checkpoints import Checkpoints, save_tensors


@pytest.fixture
def slow_disk(monkeypatch):
    """A disk that writes nothing until it is let."""
    let = threading.Event()

    def wait(path, state):
        assert let.wait(10)
        save_tensors(path, state)

    monkeypatch.setattr(checkpoints, "save_tensors", wait)
    return let


def test_a_state_is_of_the_moment_it_was_asked_for_though_it_is_written_later(tmp_path, slow_disk):
    weights, saved = torch.zeros(3), Checkpoints(tmp_path, every_s=1e-9)
    saved.save(lambda: {"step": 1, "net": OrderedDict(w=weights), "rates": [weights, (weights,)]})
    weights += 1
    assert not list(tmp_path.iterdir())
    saved.save(lambda: pytest.fail("one is being written"))
    slow_disk.set()
    found = saved.load()
    assert found["step"] == 1 and not found["net"]["w"].any() and not found["rates"][1][0].any()
    assert isinstance(found["net"], OrderedDict)


def test_what_modules_note_of_their_versions_is_kept(tmp_path):
    state = torch.nn.BatchNorm2d(2).state_dict()
    assert checkpoints.on_host(state, apart=True)._metadata == state._metadata


def test_one_that_is_asked_for_now_is_there_on_return_after_the_one_before(tmp_path):
    saved = Checkpoints(tmp_path, every_s=1e-9)
    saved.save(lambda: {"step": 1})
    saved.save(lambda: {"step": 2}, now=True)
    last, before = (torch.load(path, weights_only=True) for path in saved.paths)
    assert (last["step"], before["step"]) == (2, 1)


def test_a_full_disk_ends_the_fit_at_the_next_state_or_at_its_end(tmp_path, monkeypatch):
    def full(path, state):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_tensors", full)
    saved = Checkpoints(tmp_path, every_s=1e-9)
    with pytest.raises(OSError, match="No space"), saved:
        saved.save(dict)
    saved.save(dict)
    with pytest.raises(OSError, match="No space"):
        saved.save(dict, now=True)


def test_the_fit_s_own_error_is_the_reason_not_what_follows_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "save_tensors", lambda path, state: 1 / 0)
    saved = Checkpoints(tmp_path, every_s=1e-9)
    with pytest.raises(KeyError), saved:
        saved.save(dict)
        raise KeyError


@pytest.mark.parametrize("copied, written, least", [(0.0, 0.0, 60), (2.0, 6.0, 200), (0.1, 8, 80)])
def test_large_states_are_saved_rarer(tmp_path, monkeypatch, copied, written, least):
    saved = Checkpoints(tmp_path, every_s=60)
    saved.copied_s, saved.written_s = copied, written
    now = saved.saved_at
    for after, due in ((least - 1, False), (least, True)):
        monkeypatch.setattr(checkpoints.time, "monotonic", lambda after=after: now + after)
        assert saved._is_time() == due


def test_without_a_folder_nothing_is_saved():
    saved = Checkpoints(None, every_s=0)
    saved.save(lambda: pytest.fail("nowhere to save it"))
    assert saved.load() is None
