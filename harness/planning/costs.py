"""What jobs may take, from finished ones alike."""

from __future__ import annotations

from collections import defaultdict

from harness.planning.plan import Plan
from harness.store import Spec, Store, canonical


def estimate(plan: Plan, store: Store) -> dict[str, float | None]:
    """Seconds each pending job may take, from finished jobs alike in this store; None: no idea."""
    seconds = defaultdict(list)
    for result in store.results():
        if result.done:
            seconds[_alike(result.spec)].append(result.timings["total_s"])
    means = {alike: sum(values) / len(values) for alike, values in seconds.items()}
    return {job.key: means.get(_alike(job.about)) for job in plan.pending(store)}


def _alike(spec: Spec) -> tuple:
    return spec.kind, spec.method, spec.stage, spec.setting, canonical(spec.settings.get("train"))
