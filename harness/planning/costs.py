"""How long jobs take: measured ones alike, else by what they compute, else a plain guess.

From the durations follows the rank of a job: the seconds of the longest path that begins with it.
Starting the highest rank first keeps the longest chain of a benchmark from being its end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from harness.planning.jobs import Job
from harness.planning.plan import Plan
from harness.planning.work import Speeds, Work
from harness.store import Store
from harness.store.alike import Taken

Model = Callable[[Job], float | None]  # seconds that a job should take; None if it cannot tell
# s of what is neither measured nor counted: made data, and where no listing says how much it is
GUESSES = {"dataset": 10.0, "view": 120.0, "truth": 30.0}
# s of methods of which nothing is known: only their order matters, and nobody is told them
UNKNOWN = {"stage": 900.0, "cell": 600.0}
DEMO = {  # s of the demo's jobs on one core (configs/README.md, section 7): they are not counted
    "dataset": 3.0,
    "view": 4.0,
    "truth": 1.0,
    "stage": 3.0,
    "stage 3dsr": 8.0,
    "cell": 4.0,
    "cell das3d": 59.0,
    "cell das3d/untrained": 4.0,
    "cell 3dsr": 22.0,
    "cell dbrn": 24.0,
}
TWIN_S = 1.0  # of a view that takes over another's files


class Durations:
    """Seconds that jobs take."""

    def __init__(
        self,
        taken: Iterable[Taken] = (),
        model: Model = lambda job: None,
        guesses: Mapping[str, float] = GUESSES,
        samples: Callable[[Job], int | None] = lambda job: None,
    ):
        """guesses: s of what was neither measured nor counted, by the kind of a job: "cell", or
        with its method, "cell das3d", or its variant, "cell das3d/untrained"; samples: that a job
        is trained on, where it is known
        """
        self.model, self.guesses, self.samples = model, guesses, samples
        # sums of seconds, and counts, of a category or all, and of a number of samples
        self.sums: dict[tuple[str, str], dict[int | None, tuple[float, int]]] = defaultdict(dict)
        for one in taken:
            self.learn(one)

    def learn(self, one: Taken) -> None:
        for place in ((one.alike, one.category), (one.alike, "")):
            total, count = self.sums[place].get(one.samples, (0.0, 0))
            self.sums[place][one.samples] = (total + one.seconds, count + 1)

    def measured(self, job: Job) -> float | None:
        """The mean of jobs alike, of the same category if there are any; None if none is done.

        Jobs on less than half or more than twice as many samples are none.
        """
        here = self.samples(job)
        for place in ((job.alike, job.about.category), (job.alike, "")):
            near = [
                sums
                for there, sums in self.sums.get(place, {}).items()
                if here is None or there is None or here <= 2 * there <= 4 * here
            ]
            if near:
                return sum(total for total, _ in near) / sum(count for _, count in near)
        return None

    def of(self, job: Job) -> float:
        return self.sourced(job)[0]

    def sourced(self, job: Job) -> tuple[float, str]:
        """Seconds, and whence they are: "measured", "model" or "guess".

        "unknown": nobody can tell, and the seconds serve the order of jobs alone.
        """
        if (seconds := self.measured(job)) is not None:
            return (TWIN_S if job.place.twin else seconds), "measured"
        if (seconds := self.model(job)) is not None:
            return seconds, "model"
        if job.place.twin:
            return TWIN_S, "guess"
        kind = job.about.kind
        named = f"{kind} {job.about.method}"
        for name in (f"{named}/{job.place.labels.get('variant')}", named, kind):
            if name in self.guesses:
                return self.guesses[name], "guess"
        return UNKNOWN[kind], "unknown"

    def sort(self, job: Job) -> str:
        """What jobs have in common whose seconds should be off by the same factor."""
        source, kind = self.sourced(job)[1], job.about.kind
        if source == "unknown":
            return f"{source} {job.about.method}"
        return f"{source} {'fit' if kind in ('cell', 'stage') else kind}"


def forecast(plan: Plan, taken: Iterable[Taken], speeds: Speeds | None = None) -> Durations:
    """What each job of a plan should take: the one answer for plans, launches and their outlook.

    taken: what finished jobs took; speeds: of the machine, where they are known. Without them, the
    jobs of a demo are not counted, which would take about as long as some of them.
    """
    if speeds is None and plan.config.demo:
        return Durations(taken, guesses=DEMO)
    work = Work(plan.jobs.values(), speeds or Speeds())
    return Durations(taken, work, samples=work.samples)


def ranks(jobs: Iterable[Job], seconds: Callable[[Job], float]) -> dict[str, float]:
    """Seconds of the longest path from the start of each job.

    jobs: each after those it needs
    """
    longest: dict[str, float] = {}  # first: of what comes after it
    for job in reversed(list(jobs)):
        longest[job.key] = own = longest.get(job.key, 0.0) + seconds(job)
        for need in job.needs:
            longest[need] = max(longest.get(need, 0.0), own)
    return longest


def expected(
    jobs: Sequence[Job], durations: Durations
) -> tuple[dict[str, float], dict[str, float]]:
    """By key: the seconds that each job should take, and its rank. jobs: as `ranks` takes them"""
    seconds = {job.key: durations.of(job) for job in jobs}
    return seconds, ranks(jobs, lambda job: seconds[job.key])


def estimate(plan: Plan, store: Store) -> dict[str, float | None]:
    """Seconds each pending job may take, from finished jobs alike in this store; None: no idea."""
    durations = Durations(store.taken())
    return {job.key: durations.measured(job) for job in plan.pending(store)}
