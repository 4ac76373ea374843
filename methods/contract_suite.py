"""What every method must do, checked on a few samples: for authors, and for our own.

A `Case` is a method with settings, in one setting, and samples of its view. `run` goes through
CHECKS and says of each whether it holds and, if not, why. `relief test` makes the case from
synthetic data; tests/methods/test_contract.py puts ours through the same.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import gc
import resource
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from methods.blocks.training import every_step_reported
from methods.contract import Batch, Prediction, Progress, Samples, settings_from
from methods.standalone import Standalone

KILLS = 3  # random steps at which a fit is killed
ROUNDS = 30  # predictions in a row, for what stays in memory
DRAWN = 0.01  # share of the largest score that what is drawn by ids may change
GROWTH_BYTES = 16 * 2**20  # that they may leave behind
Near = tuple[float, float]  # absolute, and relative to the largest value


class FailedError(AssertionError):
    """What a method does otherwise than the contract says."""


class Inapplicable(Exception):
    """A check has nothing to look at here; the message says why."""


@dataclass(frozen=True)
class Result:
    check: str
    says: str  # what must hold
    state: str  # "passed", "failed", "skipped"
    why: str = ""  # it failed or was skipped, or figures
    seconds: float = 0.0


@dataclass(kw_only=True)
class Case(Standalone):
    """A method to be checked, and what it is checked on; `data` has a "test" split, too.

    size: (H, W) of the masks, px
    alone: how near maps and scores of a sample by itself must be to those in a batch
    """

    size: tuple[int, int]
    alone: tuple[Near, Near] = ((1e-6, 1e-3), (1e-6, 1e-3))

    @property
    def test(self) -> Samples:
        return self.data["test"]

    @functools.cached_property
    def fitted(self) -> Any:
        """Fitted once, in no folder."""
        return self.fit()

    def predict(self, method: Any, indices: list[int]) -> Prediction:
        found = method.predict(self.test.batch(indices, self.device))
        said = f"predict returned {type(found).__name__}, and no methods.contract.Prediction"
        _ensure(isinstance(found, Prediction), said)
        for part in ("maps", "scores"):
            values = getattr(found, part)
            said = f"{part} of a prediction are {type(values).__name__}, and no torch.Tensor"
            _ensure(torch.is_tensor(values), said)
        return found


CHECKS: dict[str, Callable[[Case], str | None]] = {}


def check(function: Callable[[Case], str | None]) -> Callable[[Case], str | None]:
    CHECKS[function.__name__] = function
    return function


def run(case: Case, listen: Callable[[Result], None] = lambda result: None) -> list[Result]:
    """Every check in turn; listen: told of each as it ends."""
    found = []
    for name in CHECKS:
        found.append(run_one(case, name))
        listen(found[-1])
    return found


def run_one(case: Case, name: str) -> Result:
    says = (CHECKS[name].__doc__ or name).strip().splitlines()[0]
    started = time.perf_counter()
    try:
        with every_step_reported():
            state, why = "passed", CHECKS[name](case) or ""
    except Inapplicable as error:
        state, why = "skipped", str(error)
    except FailedError as error:
        state, why = "failed", str(error)
    except Exception as error:  # whatever a method may raise
        last = "".join(traceback.format_tb(error.__traceback__)[-2:])
        state, why = "failed", f"{type(error).__name__}: {error}\n{last}".rstrip()
    return Result(name, says, state, why, time.perf_counter() - started)


@check
def settings(case: Case) -> None:
    """Settings are a frozen dataclass whose defaults hold, and survive JSON; variants name them."""
    Settings = case.method.Settings  # type: ignore[attr-defined]
    _ensure(Settings.__dataclass_params__.frozen, f"{Settings.__name__} is not frozen")
    again = settings_from(Settings, _plain(Settings()))
    _ensure(again == Settings(), f"{Settings.__name__} is {again} after a way through JSON")
    for variant, changes in case.method.variants.items():
        for dotted in changes:
            target = Settings()
            for part in dotted.split("."):
                said = f"variant {variant} changes {dotted}, and there is no {part}"
                _ensure(hasattr(target, part), said)
                target = getattr(target, part)


@check
def shapes(case: Case) -> None:
    """Maps (B, H, W) of the masks' size and scores (B,), float32, finite, without a graph."""
    count = len(case.test)
    found = case.predict(case.fitted, list(range(count)))
    for part, wanted in (("maps", (count, *case.size)), ("scores", (count,))):
        values = getattr(found, part)
        _ensure(tuple(values.shape) == wanted, f"{part} are {tuple(values.shape)}, not {wanted}")
        _ensure(values.dtype == torch.float32, f"{part} are {values.dtype}, not float32")
        _ensure(bool(values.isfinite().all()), f"{part} are not finite")
        _ensure(not values.requires_grad, f"{part} hold a graph: predict under inference_mode")


@check
def alone(case: Case) -> str:
    """A sample by itself, and in another order, is predicted as in a batch of many."""
    count = len(case.test)
    many = case.predict(case.fitted, list(range(count)))
    worst = {"maps": 0.0, "scores": 0.0}
    batches = [[i] for i in range(count)] + [list(range(count))[::-1]]
    for indices in batches:
        found = case.predict(case.fitted, indices)
        for part, (absolute, relative) in zip(worst, case.alone):
            wanted = getattr(many, part)[indices]
            allowed = absolute + relative * float(getattr(many, part).abs().max())
            off = float((getattr(found, part) - wanted).abs().max())
            worst[part] = max(worst[part], off)
            _ensure(
                off <= allowed,
                f"{part} of sample {indices} differ by {off:.3g} from those in a batch of {count} "
                f"(allowed {allowed:.3g}): does a statistic go over the batch?",
            )
    return f"largest difference: maps {worst['maps']:.1e}, scores {worst['scores']:.1e}"


@check
def same_seed(case: Case) -> None:
    """The same seed gives the same bits: saved state, maps and scores."""
    one, other = case.fitted, case.fit()
    _ensure_same_states(case, one, other, "a second fit of the same seed")
    _ensure_same(case, one, other, "a second fit of the same seed")


@check
def saved(case: Case) -> None:
    """What is saved and loaded into a fresh method predicts the same bits."""
    folder = case.folder("saved")
    case.fitted.save(folder)
    loaded = case.make()
    loaded.load(folder)
    _ensure_same(case, case.fitted, loaded, "the loaded method")


@check
def resumed(case: Case) -> str:
    """A fit that is killed at random steps and goes on ends in the bits of an undisturbed one."""
    reports: list[Progress] = []
    whole = case.fit(report=reports.append)
    if not reports:
        raise Inapplicable("its fit reports no progress, so it is started over when it is killed")
    rng = np.random.default_rng(0)
    drawn = sorted(rng.choice(len(reports), min(KILLS, len(reports)), replace=False).tolist())
    repeated = 0
    for place in drawn:
        work = case.folder("killed")
        with _killed_after(place) as count:
            case.fit(folder=work, checkpoint_every_s=0.0, report=count)
        seen: list[Progress] = []
        again = case.fit(folder=work, report=seen.append)
        left = reports[place]
        told = f"killed at {left.phase} {left.step} of {left.total} and resumed"
        _ensure_same_states(case, whole, again, told)
        _ensure_same(case, whole, again, told)
        repeated = max(repeated, len(seen) - (len(reports) - place))
    ways = ", ".join(str(place) for place in drawn)
    return f"killed at report {ways} of {len(reports)}; at most {repeated} repeated"


@check
def inputs(case: Case) -> None:
    """Neither fit nor predict changes what it is given."""
    batch = case.test.batch(range(len(case.test)), case.device)
    before = {name: array.clone() for name, array in batch.arrays.items()}
    case.fitted.predict(batch)
    for name, array in batch.arrays.items():
        _ensure(torch.equal(array, before[name]), f"predict changes {name} of its batch")


@check
def names(case: Case) -> str:
    """Other ids change nothing but what is drawn by them: no answer is looked up."""
    count = len(case.test)
    batch = case.test.batch(range(count), case.device)
    new = tuple(f"{id} of another" for id in batch.ids)  # that no stage has kept anything of
    wanted = case.fitted.predict(Batch(batch.arrays, new))
    found = case.fitted.predict(Batch(batch.arrays, new[::-1]))
    off = float((found.scores - wanted.scores).abs().max())
    spread = float(wanted.scores.max() - wanted.scores.min())
    order = torch.equal(found.scores.argsort(), wanted.scores.argsort())
    _ensure(
        off <= max(0.5 * spread, DRAWN * float(wanted.scores.abs().max())) or order,
        f"scores change by {off:.3g} with the ids alone, and they spread over {spread:.3g}",
    )
    return f"scores differ by {off:.1e}"


@check
def device(case: Case) -> None:
    """Predictions are where the batch is; fit and predict run on a GPU where there is one."""
    found = case.predict(case.fitted, [0])
    for part in ("maps", "scores"):
        where = getattr(found, part).device.type
        _ensure(where == case.device, f"{part} are on {where}, the batch on {case.device}")
    if not torch.cuda.is_available():
        raise Inapplicable("predictions are on the CPU with their batch; there is no GPU here")
    on_gpu = dataclasses.replace(case, device="cuda", _stages={})
    found = on_gpu.predict(on_gpu.fitted, [0])
    _ensure(found.maps.device.type == "cuda", f"maps are on {found.maps.device} for a GPU's batch")


@check
def memory(case: Case) -> str:
    """Predicting again and again leaves nothing behind."""

    def held() -> int:
        gc.collect()
        with suppress(AttributeError):  # glibc's: what is free and kept for later does not count
            ctypes.CDLL(None).malloc_trim(0)
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    if not Path("/proc/self/statm").exists():
        raise Inapplicable("only Linux tells how much memory is held")
    for _ in range(3):
        case.predict(case.fitted, [0])
    before = held()
    for _ in range(ROUNDS):
        case.predict(case.fitted, [0])
    grown = held() - before
    _ensure(
        grown <= GROWTH_BYTES,
        f"{ROUNDS} predictions leave {grown / 2**20:.0f} MiB behind: what keeps them?",
    )
    return f"{ROUNDS} predictions leave {max(0, grown) / 2**20:.1f} MiB"


@check
def words(case: Case) -> None:
    """`sizes` gives whole numbers by name, `notes` texts by name."""
    for ask, kind in (("sizes", int), ("notes", str)):
        for name, value in getattr(case.fitted, ask)().items():
            fits = isinstance(name, str) and type(value) is kind
            _ensure(fits, f"{ask}() says {name!r} is {value!r}, no {kind.__name__}")


@check
def figures(case: Case) -> str:
    """Time and memory on these few samples."""
    started = time.perf_counter()
    case.fit()
    fit_s, started = time.perf_counter() - started, time.perf_counter()
    count = len(case.test)
    case.predict(case.fitted, list(range(count)))
    each_ms = (time.perf_counter() - started) / count * 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return (
        f"fit of {len(case.data['train'])} samples {fit_s:.2f} s, predict {each_ms:.1f} ms a "
        f"sample, process at most {peak:.0f} MiB"
    )


class _Killed(BaseException):
    """As a kill: not for a method to catch."""


@contextmanager
def _killed_after(place: int) -> Iterator[Callable[[Progress], None]]:
    """A report that ends the fit when it is called for the place-th time, counted from 0."""
    calls = 0

    def report(progress: Progress) -> None:
        nonlocal calls
        if calls == place:
            raise _Killed
        calls += 1

    try:
        yield report
    except _Killed:
        return
    raise FailedError(f"the fit caught the end that its report {place} asked for, and went on")


def state_of(method: Any, folder: Path) -> dict[str, Any]:
    """Everything that it saves, by file."""
    folder.mkdir(exist_ok=True)
    method.save(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _content(path) for path in files}


def _content(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # no file of torch's
        return path.read_bytes()


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, however deep."""
    if torch.is_tensor(a):
        return torch.is_tensor(b) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def _ensure_same_states(case: Case, one: Any, other: Any, who: str) -> None:
    a, b = (state_of(m, case.folder("state")) for m in (one, other))
    differing = [name for name in a.keys() | b.keys() if not same(a.get(name), b.get(name))]
    _ensure(not differing, f"{who} saves another {', '.join(sorted(differing))}")


def _ensure_same(case: Case, one: Any, other: Any, who: str) -> None:
    indices = list(range(len(case.test)))
    a, b = case.predict(one, indices), case.predict(other, indices)
    for part in ("maps", "scores"):
        off = float((getattr(a, part) - getattr(b, part)).abs().max())
        equal = torch.equal(getattr(a, part), getattr(b, part))
        _ensure(equal, f"{who} predicts other {part}, by up to {off:.3g}")


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _ensure(holds: bool, why: str) -> None:
    if not holds:
        raise FailedError(why)
