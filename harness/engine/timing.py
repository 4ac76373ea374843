"""Finished cells timed again by their kept models, alone on the device (relief bench --cells).

A record and its key stay as they are; what is found lies beside (harness/store/timed.py).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from filelock import Timeout

from harness.data.blind import blind
from harness.data.cache import open_split
from harness.engine.alone import Alone
from harness.engine.environment import environment
from harness.engine.measure import Memory, load_average, singles, speed_of
from harness.engine.models import load
from harness.engine.outcomes import one_line
from harness.planning.jobs import Protocol
from harness.store import Record, Store, timed
from harness.store.locks import Lock
from harness.store.models import Stored
from harness.store.processes import Process
from harness.store.timed import Timing, device_of
from methods.errors import UserError

TIMED, VALID, NO_MODEL, ELSEWHERE, DISTURBED, FAILED = (
    "timed",
    "valid before",  # its speed was measured alone already
    "no model",
    "another device",
    "disturbed",  # others used the device: nothing was kept
    "failed",
)
UNDONE = (DISTURBED, FAILED)  # what the same command may do yet
LOOK_S = 1.0  # others are watched for so long before anything is timed


@dataclass(frozen=True)
class Ended:
    """What came of a cell. before, after: its speed, where there is one"""

    key: str
    title: str
    state: str
    reason: str = ""
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


def protocol_of(launch: Mapping[str, Any]) -> Protocol:
    """How a launch times; the usual way where it does not time at all."""
    given = (launch.get("config") or {}).get("protocol", {})
    names = {k: v for k, v in given.items() if k.startswith("latency_")}
    return Protocol(**names) if names.get("latency_samples", 1) else Protocol()


def time_again(
    store: Store,
    records: Sequence[Record],
    protocol: Protocol,
    device: torch.device,
    shared: bool = False,
    anew: bool = False,
    listen: Callable[[Ended], None] = lambda ended: None,
) -> list[Ended]:
    """Time these finished cells one after the other, and keep what is found.

    shared: also while others use the device; such speeds are marked, and never in the place of one
    that was measured alone. anew: also cells whose speed was. listen: told of each as it ends.
    Raises UserError where others are at work before the first, or another process times here.
    """
    found = []
    with _only_one(store):
        asked = False
        for record in records:
            stored = Stored(record)
            before = timed.speed_of(record)
            if before.get("valid") is True and not anew:
                ended = Ended(record.key, record.title, VALID, before=before)
            elif not stored.files:
                ended = Ended(record.key, record.title, NO_MODEL, before=before)
            else:
                if not asked and not shared:
                    _refuse_others(device)
                asked = True
                ended = _timed(store, stored, protocol, device, shared)
            listen(ended)
            found.append(ended)
    return found


@contextmanager
def _only_one(store: Store) -> Generator[None]:
    """Of the processes that time cells of a store on this machine."""
    lock = Lock(store.path / "locks" / f"timing-{Process.own().host}.lock")
    try:
        with lock.hold(timeout=0):
            yield
    except Timeout:
        who = lock.holder or "another process"
        raise UserError(f"{who} times cells of {store.path} on this machine: wait for it") from None


def _refuse_others(device: torch.device) -> None:
    alone = Alone(device)
    time.sleep(LOOK_S)
    if why := alone.disturbed():
        raise UserError(
            f"{why}, so times would not be those of the methods: wait until this machine is idle, "
            "or add --shared to have them marked"
        )


def _timed(
    store: Store, stored: Stored, protocol: Protocol, device: torch.device, shared: bool
) -> Ended:
    record, before = stored.record, timed.speed_of(stored.record)
    about = stored.key, record.title
    try:
        found = _measured(store, stored, protocol, device)
    except _ElsewhereError as error:
        return Ended(*about, ELSEWHERE, str(error), before)
    except Exception as error:  # whatever files, methods or a full card may raise: of this cell
        return Ended(*about, FAILED, one_line(error), before)
    finally:
        _release(device)
    if not found.valid and (not shared or before.get("valid") is True):
        return Ended(*about, DISTURBED, found.others, before)
    timed.keep(record, found)
    return Ended(*about, TIMED, found.others, before, found.speed)


class _ElsewhereError(Exception):
    """A cell was computed on a device that is not this one."""


def _measured(store: Store, stored: Stored, protocol: Protocol, device: torch.device) -> Timing:
    """A cell's speed on this machine, as its job would have measured it."""
    record, memory = stored.record, Memory(device)
    model = load(store, stored, device)
    here = environment(device)
    if (where := device_of(here)) != (then := device_of(record.environment)):
        raise _ElsewhereError(f"it was computed on {then}, and this is {where}")
    view = model.prepared
    split, _ = open_split(view.folder, "test")
    unknown = blind(split, record.spec.category, view.spec.data).samples
    batches = singles(unknown, device)
    model.method.predict(batches[0])  # the first call may compile, in processes of its own
    alone = Alone(device)
    speed = speed_of(model.method, batches, view, protocol, memory)
    others = alone.disturbed()
    return Timing(time.time(), speed | {"valid": not others}, others, here, load_average())


def _release(device: torch.device) -> None:
    """Give back what the last model held, so that the next one's peaks are its own."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
