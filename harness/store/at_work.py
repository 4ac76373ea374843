"""Which launches and sweeps are at work: their driver holds a lock, which the system frees.

    STORE/locks/launch-NAME.lock

It is held from before Ray starts until nothing is left to do, so that whoever looks at the store
knows that somebody is at it: `relief status --watch`, MLflow.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

from filelock import Timeout

from harness.store.locks import Lock
from harness.store.store import Store

ASK_S = 0.2  # who asks whether a lock is held has it for a moment


def lock_of(store: Store, name: str) -> Lock:
    """name: of a launch or a sweep"""
    return Lock(store.path / "locks" / f"launch-{name}.lock")


@contextmanager
def at_work(store: Store, name: str, say: Callable[[str], None]) -> Generator[None]:
    """Around all that drives a launch or sweep of that name.

    say: takes a line if another driver is at it already; then that one's lock counts
    """
    lock = lock_of(store, name)
    with ExitStack() as held:
        try:
            held.enter_context(lock.hold(timeout=ASK_S))
        except Timeout:
            who = lock.holder or "an unknown process"
            say(f"{name} is driven by {who}, too: each job is computed by one of the two")
        yield
