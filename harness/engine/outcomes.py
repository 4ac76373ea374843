"""How one attempt at a job ended, as its worker says it."""

from __future__ import annotations

from dataclasses import dataclass

from methods import plugins

REFUSED = "refused"  # not computed: the worker has other code, or does not see the store
BROKEN = "broken"  # not computed: the worker's process had a CUDA error before


@dataclass(frozen=True)
class Outcome:
    key: str
    status: str
    reason: str = ""  # one line
    log: tuple[str, ...] = ()  # its last lines
    node: str = ""  # Ray's id of the node that refused it
    changed: bool = False  # it was computed again, and its files have other bytes than before
    of_card: bool = False  # the memory that it ran out of was the GPU's, and not the host's


def one_line(error: BaseException) -> str:
    """An exception as a reason."""
    return plugins.told(error)
