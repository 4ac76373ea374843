"""Metrics of plug-ins, which join the registry (methods/plugins.py)."""

from __future__ import annotations

import logging

from harness.metrics.registry import Metric, forget, register
from methods import plugins

log = logging.getLogger(__name__)
_joined: set[str] = set()


def join() -> None:
    """Register the metrics of the plug-ins that count now, in place of those before.

    One that is broken is told in a line and left out: what is stored can be scored by it later.
    """
    while _joined:
        forget(_joined.pop())
    for offer in plugins.offers("metrics"):
        try:
            found = offer.load()
            if not isinstance(found, Metric) or found.name != offer.name:
                raise ValueError(f"it is {found!r:.100}, no Metric called {offer.name!r}")
            register(found)
        except ValueError as error:
            log.warning("metric %s of plug-in %s is left out: %s", offer.name, offer, error)
            continue
        _joined.add(found.name)
