"""What jobs may take, from finished ones alike."""

from __future__ import annotations

from collections import defaultdict

from harness.planning.plan import Plan
from harness.store import Store
from harness.store.alike import alike


def estimate(plan: Plan, store: Store) -> dict[str, float | None]:
    """Seconds each pending job may take, from finished jobs alike in this store; None: no idea."""
    seconds = defaultdict(list)
    for taken in store.taken():
        seconds[taken.alike].append(taken.seconds)
    means = {alike: sum(values) / len(values) for alike, values in seconds.items()}
    return {job.key: means.get(alike(job.about)) for job in plan.pending(store)}
