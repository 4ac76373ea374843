"""What a launch says of itself while it runs, for whoever looks: `relief status --watch`.

    STORE/alive/launch-<id>.json    written by its driver every 2 s, gone when it ended

Beside it lie the signs of life of the jobs (heartbeat.py). A launch whose driver was killed leaves
its file; nobody beats it any more.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine.heartbeat import BEAT_S
from harness.store.files import write_brief
from harness.store.processes import Process

if TYPE_CHECKING:
    from harness.engine.driver import Driver
    from harness.store import Store

FAILURES = 20  # the latest, of those that it names


def file_of(store: Store, launch_id: str) -> Path:
    return store.alive / f"launch-{launch_id}.json"


class Live:
    """Writes the file of one launch; used around its driver's run."""

    def __init__(self, store: Store, launch_id: str, total: int):
        """total: jobs that it has to do"""
        self.path, self.total = file_of(store, launch_id), total
        self.started, self.told = time.time(), 0.0

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: Any) -> None:
        with suppress(OSError):  # it only informs, and the launch has its own reason to end
            self.path.unlink(missing_ok=True)

    def tell(self, driver: Driver) -> None:
        """At most every 2 s."""
        if time.monotonic() - self.told < BEAT_S:
            return
        self.told = time.monotonic()
        with suppress(OSError):  # a full disk is noticed by who must write
            write_brief(self.path, self._picture(driver))

    def _picture(self, driver: Driver) -> dict[str, Any]:
        offers = driver.room.offers
        cpus = sum(offer.cpus for offer in offers)
        there = {
            "nodes": len(offers),
            "cpus": None if math.isinf(cpus) else cpus,  # this process counts none
            "gpus": sum(offer.gpus for offer in offers),
        }
        return Process.own().plain() | {
            "started": self.started,
            "told": time.time(),
            "total": self.total,
            "counts": dict(driver.summary.counts),
            "waiting": len(driver.queue.waiting),
            "ends": None if (left := driver.remaining_s) is None else time.time() + left,
            "there": there,
            "running": {
                key: {
                    "title": running.job.title,
                    "cpus": running.job.resources.cpus,
                    "gpus": running.job.resources.gpus,
                    "memory_gb": running.job.resources.memory_gb,
                    "attempt": running.attempt,
                    "takes": driver.outlook.job(key),
                }
                for key, running in driver.running.items()
            },
            "failures": [
                {"title": record.title, "status": record.status, "reason": record.reason}
                for record in driver.summary.failures[-FAILURES:]
            ],
        }
