"""Keeps MLflow current while a launch runs."""

from __future__ import annotations

import logging
import threading

from harness.store import Store
from harness.store.locks import TELL_S
from harness.store.secrets import masked
from harness.tracking.database import WAIT_S
from harness.tracking.launches import sync

log = logging.getLogger(__name__)


class Mirror(threading.Thread):
    """Syncs a launch every `every_s` seconds beside the driver; trouble is only remembered."""

    def __init__(self, store: Store, launch: dict, uri: str | None, every_s: float = 30.0):
        super().__init__(daemon=True, name="mlflow-mirror")
        self.store, self.launch, self.uri, self.every_s = store, launch, uri, every_s
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(self.every_s):
            try:
                sync(self.store, self.launch, self.uri, wait_s=TELL_S)
            except Exception as error:  # whatever tracking does, the benchmark goes on
                log.info("tracking error=%s", masked(str(error)).partition("\n")[0])

    def stop(self, wait_s: float = WAIT_S) -> None:
        """End it, and wait for what it is writing, at most wait_s."""
        self.stopping.set()
        if self.is_alive():
            self.join(wait_s)
