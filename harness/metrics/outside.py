"""Metrics of plug-ins, which join the registry (methods/plugins.py)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.metrics.registry import Metric, forget, register
from methods import plugins

log = logging.getLogger(__name__)
_joined: set[str] = set()


def join_of(launch: Mapping[str, Any], store_path: Path) -> None:
    """Register those of the plug-ins that a launch was started with, too.

    A file that is no longer where it was is taken from the store, the newest of its name.
    """
    named = (launch.get("config") or {}).get("plugins") or []
    for source in named:
        copies = store_path.glob(f"plugins/*/{Path(source).name}")
        newest = max(copies, key=lambda path: path.stat().st_mtime, default=None)
        if plugins.is_path(source) and not Path(source).exists() and newest is not None:
            plugins.stand_in(source, newest)
    if named:
        plugins.use([*plugins.given(), *named])
        join()


def join(tell: bool = True) -> None:
    """Register the metrics of the plug-ins that count now, in place of those before.

    One that is broken is told in a line, once, and left out: what is stored can be scored by it
    later. tell: False in a job, whose driver has told
    """
    say = _say if tell else log.debug
    while _joined:
        forget(_joined.pop())
    for one in plugins.unloadable():
        say(f"plug-in {one.source} is left out, metrics and all: {one.why}")
    for offer in plugins.offers("metrics"):
        try:
            found = offer.load()
            if not isinstance(found, Metric) or found.name != offer.name:
                raise ValueError(f"it is {found!r:.100}, no Metric called {offer.name!r}")
            register(found)
        except ValueError as error:
            say(f"metric {offer.name} of plug-in {offer} is left out: {error}")
            continue
        _joined.add(found.name)


@functools.cache  # once
def _say(warning: str) -> None:
    log.warning("%s", warning)
