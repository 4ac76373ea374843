"""What a sweep is: a configuration, a search space over its method's settings, an objective.

    base: benchmark               # configuration whose data, resources and settings hold
    config: {methods: [das3d], settings: [rgb+3d]}     # changes of it
    space:
      das3d.p_d: {kind: uniform, low: 0.0, high: 0.5}
      das3d.skew.sigma:
        {kind: choice, values: [[0.3, 1.0], [0.7, 2.0]], when: {das3d.skew.enabled: true}}
    objective: {metrics: [i_auroc], on: validation}
    search: {kind: tpe, trials: 32, seed: 0, hours: 12}
    early: {kind: asha}

Everything wrong with it is found here, before anything starts; harness/engine/sweep.py runs it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import methods
from harness import metrics as measures
from harness.planning import config as configs
from harness.planning.authors import idle
from harness.planning.based import over_base
from harness.planning.config import Config, ConfigError
from harness.planning.expand import build
from harness.planning.plan import Plan
from harness.planning.sources import validation_counts
from harness.store import Record, canonical
from harness.store.names import Names
from harness.store.sweeps import brief
from methods.errors import UserError

SWEPT = "swept"  # the variant that a point's settings make
COSTS = {  # metric -> where a cell's result has it; less is better
    "latency_p50_s": ("speed", "latency_p50_s"),
    "fit_s": ("timings", "fit_s"),
    "host_peak_bytes": ("memory", "host_peak_bytes"),
}


@dataclass
class Domain:
    """The values of one setting. `when` holds back a setting until others have these values."""

    kind: Literal["choice", "grid", "uniform", "loguniform", "int"]
    values: Optional[list[Any]] = None  # choice: drawn from; grid: each of them tried
    low: Optional[float] = None  # uniform, loguniform, int; both ends included
    high: Optional[float] = None
    log: bool = False  # int: uniform in the logarithm
    when: dict[str, Any] = field(default_factory=dict)

    @property
    def discrete(self) -> bool:
        return self.kind in ("choice", "grid")

    @property
    def choices(self) -> list[Any]:
        """Those of choice and grid. Raises ConfigError where `fault` has something to say."""
        if self.values is None:
            raise ConfigError(f"{self.kind} has no values")
        return self.values

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest of the other kinds. Raises ConfigError as `choices`."""
        if self.low is None or self.high is None:
            raise ConfigError(f"{self.kind} has no low or no high")
        return self.low, self.high

    def examples(self) -> list[Any]:
        """All values, or both ends."""
        if self.discrete:
            return list(self.choices)
        return [int(v) if self.kind == "int" else v for v in self.ends]

    def fault(self) -> str | None:
        """What is wrong with it, or None."""
        if self.discrete:
            if not self.values:
                return f"{self.kind} needs values: [...], and there are none"
            if len({canonical(v) for v in self.values}) < len(self.values):
                return "a value stands twice"
            if self.low is not None or self.high is not None or self.log:
                return f"{self.kind} has values, not low, high or log"
            return None
        if self.values is not None:
            return f"{self.kind} has low and high, not values"
        if self.low is None or self.high is None or self.low >= self.high:
            return f"{self.kind} needs low < high, and they are {self.low} and {self.high}"
        if self.kind == "int" and (self.low % 1 or self.high % 1):
            return f"int needs whole low and high, and they are {self.low} and {self.high}"
        if (self.kind == "loguniform" or self.log) and self.low <= 0:
            return f"low is {self.low}, and a logarithm needs it above 0"
        if self.log and self.kind != "int":
            return "log is for int; loguniform is the logarithmic uniform"
        return None


@dataclass
class Objective:
    """What is made best: the mean over all cells of a point, of metrics and of costs."""

    metrics: list[str] = field(default_factory=lambda: ["i_auroc"])
    on: Literal["validation", "test"] = "validation"  # "test" marks all that comes of it


@dataclass
class Search:
    kind: Literal["random", "grid", "tpe"] = "random"
    trials: int = 16  # of random (for each point of a grid in it) and tpe
    seed: int = 0
    hours: Optional[float] = None  # no new trial and no new cell after so long
    concurrency: Optional[int] = None  # trials at a time; None: as many as jobs fit


@dataclass
class Early:
    """Ends trials whose scores so far are poor, inside their trainings where these are looked at.

    How far a trial has come is counted in trainings: cells that are done, and the share of the
    one after them.
    """

    # promotion: asynchronous halving as published; asha and median: Tune's rules of stopping
    kind: Literal["none", "promotion", "asha", "median"] = "none"
    # share of each training before which its looks are not compared: earlier ones say next to
    # nothing of the end (figures: configs/README.md, section 4)
    settled: float = 0.3
    # trainings of every trial in any case; none: until the first look that is compared
    grace: Optional[float] = None
    # promotion, asha: one in so many goes on, each rung so many times as far as the one before it
    reduction: int = 3
    looks: bool = True  # false: compares whole cells only, as where nothing can be looked at


@dataclass
class Sweep:
    name: str
    space: dict[str, Domain]
    only: list[str] = field(default_factory=list)  # settings of the space to draw; none: all
    base: str = "demo"
    config: dict[str, Any] = field(default_factory=dict)
    objective: Objective = field(default_factory=Objective)
    search: Search = field(default_factory=Search)
    early: Early = field(default_factory=Early)

    def __post_init__(self):
        self.given: dict[str, Any] = {}  # the configuration that points change, unchecked
        self.names = Names()  # of the store that it is for

    @property
    def entry(self) -> tuple[str, str]:
        """Method and variant that are swept."""
        method, _, variant = self.given["methods"][0].partition("/")
        return method, variant

    @property
    def inside(self) -> bool:
        """Whether trials are compared by looks at their trainings, and not by whole cells alone.

        Looks are of validation samples, so an objective on test data or of costs has none.
        """
        return (
            self.early.kind != "none"
            and self.early.looks
            and self.objective.on == "validation"
            and not set(self.objective.metrics) & set(COSTS)
            and methods.declared(self.entry[0]).validates
        )

    @property
    def climbs(self) -> bool:
        """Whether trials end at rungs, and the best of a rung go on from there."""
        return self.early.kind == "promotion"

    @property
    def every(self) -> float:
        """Share of a training between two things that are known of a trial."""
        given = (self.given.get("training") or {}).get("validate_every")
        return (given or configs.LOOKS_EVERY) if self.inside else 1.0

    @property
    def grace(self) -> float:
        """Trainings of every trial in any case."""
        if self.early.grace is not None:
            return self.early.grace
        return max(self.early.settled, self.every) if self.inside else 1.0

    @property
    def points(self) -> int:
        """How many trials there will be, beside that of the unchanged settings."""
        gridded = self.search.kind == "grid"
        in_grid = [len(d.choices) for d in self.space.values() if gridded or d.kind == "grid"]
        return math.prod(in_grid) * (1 if gridded else self.search.trials)

    def point(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of a drawn point: choices by value, and only those that apply."""
        values = {}
        for name, domain in self.space.items():
            value = drawn[name]
            values[name] = domain.choices[int(value)] if domain.discrete else value
        return {
            name: value
            for name, value in values.items()
            if all(values.get(k) == v for k, v in self.space[name].when.items())
        }

    def configured(self, values: Mapping[str, Any], both: bool = False) -> dict[str, Any]:
        """The configuration with a point's settings as the variant "swept".

        both: beside the unchanged one, for a leaderboard of the two
        """
        method, variant = self.entry
        given = dict(self.given)
        if both:
            given["selected_on"] = self.objective.on
        elif self.inside:
            given["training"] = {**(given.get("training") or {}), "validate_every": self.every}
        if not values:
            return given
        swept = "+".join(filter(None, (variant, SWEPT)))
        entries = [f"{method}/{swept}"]
        changes = {name.removeprefix(f"{method}."): value for name, value in values.items()}
        variants = dict(given.get("variants") or {})
        variants[method] = {**variants.get(method, {}), SWEPT: changes}
        if both:
            entries.insert(0, given["methods"][0])
        return {**given, "methods": entries, "variants": variants}

    def plan(self, values: Mapping[str, Any], both: bool = False) -> Plan:
        return build(configs.typed(self.configured(values, both), self.name), self.names)

    def value(self, result: Record, metric: str) -> float:
        """What a finished cell says of a metric."""
        if metric in COSTS:
            group, name = COSTS[metric]
            found = getattr(result, group).get(name)
        else:
            on_test = self.objective.on == "test"
            found = (result.metrics if on_test else result.validation).get(metric)
        if found is None:
            raise UserError(f"{result.title} has no {metric} on {self.objective.on}")
        return float(found)

    def mode(self, metric: str) -> str:
        if metric in COSTS or measures.get(metric).smaller_is_better:
            return "min"
        return "max"

    def sign(self, metric: str) -> int:
        """1 if higher is better, else -1."""
        return 1 if self.mode(metric) == "max" else -1

    def _stops(self) -> dict[str, Any]:
        """What decides when trials end; without, as it stood before there were looks."""
        if self.early.kind == "none":
            return {"kind": "none", "grace": 1, "reduction": 2}
        return asdict(self.early) | {"every": self.every}

    def id(self, plan: Plan) -> str:
        """The same search over the same data, settings and code versions has the same name."""
        parts = [
            asdict(self.search) | {"hours": None, "concurrency": None},
            self._stops(),
            asdict(self.objective),
            {k: asdict(d) for k, d in self.space.items()},
            [cell["key"] for cell in plan.cells],
        ]
        return f"{self.name}-{hashlib.sha256(canonical(parts).encode()).hexdigest()[:8]}"


def load(
    name: str, overrides: Sequence[str] = (), data: str | None = None, background: str | None = None
) -> Sweep:
    """Read a sweep and check all of it. Raises ConfigError.

    overrides: key=value of the sweep (search.trials=4, base=benchmark) or of its configuration
    """
    path = configs.find(name, "sweeps")
    own = ("base", "search", "early", "objective", "only")
    mine = [item for item in overrides if item.split("=")[0].split(".")[0] in own]
    others = [item for item in overrides if item not in mine]
    source = path.name
    try:
        values = {"name": path.stem, **configs.plain_values(path, mine)}
        sweep = configs.structured(Sweep, values)
        _narrow(sweep)
        base = configs.on_data(configs.merge(configs.read(sweep.base), sweep.config), data)
        base = configs.on_background(configs.merge(base, {}, others), background)
        sweep.given = {**base, "name": sweep.name}
        _check(sweep)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return sweep


def _narrow(sweep: Sweep) -> None:
    """Leave the settings that `only` names, and those that they wait for."""
    if unknown := [name for name in sweep.only if name not in sweep.space]:
        raise ConfigError(
            f"only: the space has no {', '.join(unknown)}; it has {', '.join(sweep.space)}"
        )
    if sweep.only:
        wanted = {*sweep.only, *(k for name in sweep.only for k in sweep.space[name].when)}
        sweep.space = {name: domain for name, domain in sweep.space.items() if name in wanted}


def _check(sweep: Sweep) -> None:
    loaded = configs.typed(sweep.given, sweep.base)
    if len(loaded.methods) != 1:
        raise ConfigError(f"a sweep is of one method: config.methods is {loaded.methods}")
    _check_search(sweep)
    _check_space(sweep, loaded)
    _check_objective(sweep, loaded)


def _check_search(sweep: Sweep) -> None:
    search, early = sweep.search, sweep.early
    if search.trials < 1:
        raise ConfigError(f"search.trials is {search.trials}: give 1 or more")
    if search.hours is not None and search.hours <= 0:
        raise ConfigError(f"search.hours is {search.hours}: give more than 0, or leave it out")
    if search.concurrency is not None and search.concurrency < 1:
        raise ConfigError(f"search.concurrency is {search.concurrency}: give 1 or more")
    if (early.grace is not None and early.grace <= 0) or early.reduction < 2:
        raise ConfigError("early: grace is more than 0 trainings, reduction 2 or more")
    if sweep.climbs and search.kind == "tpe":
        raise ConfigError(
            "early.kind promotion chooses among points that are drawn beforehand, and tpe draws by "
            "the ends of others: set search.kind=random, or early.kind=asha"
        )
    if not 0 < early.settled <= 1:
        raise ConfigError(f"early.settled is {early.settled}: a share of a training, above 0")
    if early.kind != "none" and len(sweep.objective.metrics) > 1:
        raise ConfigError(
            f"early.kind {early.kind} compares one metric, and objective.metrics are "
            f"{', '.join(sweep.objective.metrics)}: set early.kind=none"
        )
    for name, domain in sweep.space.items():
        if search.kind == "tpe" and domain.kind == "grid":
            raise ConfigError(
                f"space.{name}: tpe draws from choices; a grid is for random and grid"
            )
        if search.kind == "grid" and not domain.discrete:
            raise ConfigError(
                f"space.{name}: a grid search needs choice or grid, not {domain.kind}"
            )


def _check_space(sweep: Sweep, loaded: Config) -> None:
    if not sweep.space:
        raise ConfigError(
            "space is empty: name a setting, e.g. das3d.p_d: {kind: uniform, low: 0, high: 0.5}"
        )
    method, variant = sweep.entry
    settings = loaded.settings_of(method, variant)
    for name, domain in sweep.space.items():
        if not name.startswith(f"{method}."):
            raise ConfigError(
                f"space.{name} is no setting of {method}, the swept method; "
                f"its settings begin with {method}."
            )
        if fault := domain.fault():
            raise ConfigError(f"space.{name}: {fault}")
        if unknown := sorted(set(domain.when) - set(sweep.space)):
            raise ConfigError(f"space.{name}.when names {', '.join(unknown)}, not in the space")
        dotted = name.removeprefix(f"{method}.")
        if file := idle(method, settings, dotted):
            raise ConfigError(
                f"space.{name} would change nothing: {file.setting} is given, in place of what it "
                f"trains; leave {file.setting} out, or search something else"
            )
        for value in domain.examples():
            try:
                configs.with_overrides(settings, {dotted: value}, method)
            except ConfigError as error:
                raise ConfigError(f"space.{name}: {error}") from error


def _check_objective(sweep: Sweep, loaded: Config) -> None:
    objective = sweep.objective
    if not objective.metrics or len(set(objective.metrics)) < len(objective.metrics):
        raise ConfigError(f"objective.metrics is {objective.metrics}: give one or more, each once")
    scored = [metric.name for metric in measures.known_metrics()]
    known = (*scored, *COSTS)
    for metric in objective.metrics:
        if metric not in known:
            raise ConfigError(f"objective.metrics: no {metric!r}; known: {', '.join(known)}")
    if "latency_p50_s" in objective.metrics and not loaded.protocol.latency_samples:
        raise ConfigError(
            "objective latency_p50_s: nothing is timed with protocol.latency_samples=0"
        )
    if objective.on == "test" or not set(objective.metrics) & set(scored):
        return
    for name, dataset in loaded.datasets.items():
        for category, count in validation_counts(loaded, name, dataset).items():
            if not count:
                raise ConfigError(
                    f"{name}/{category} has no validation samples to choose by: put "
                    "normal ones into validation/good, or select on test data with "
                    "objective.on=test, which marks the results"
                )


def write_best(sweep: Sweep, values: Mapping[str, Any], path: Path) -> None:
    """A configuration for `relief run`: the swept method with and without these settings.

    It names the base, and holds no more than what differs from it.
    """
    note = "chosen on test data" if sweep.objective.on == "test" else "chosen on validation data"
    given = {k: v for k, v in sweep.configured(values, both=True).items() if k != "name"}
    comment = f"The best point of the sweep {sweep.name}, {note}: {describe(values)}."
    configs.write_yaml(over_base(given, sweep.base), path, comment)


def describe(values: Mapping[str, Any]) -> str:
    """A point in one line."""
    parts = [f"{name}={brief(value)}" for name, value in values.items()]
    return " ".join(parts) or "unchanged settings"
