"""Relief from Python, for notebooks and scripts: run, read results, fit and predict on arrays.

    import harness
    harness.run("demo", ["methods=[baseline]"]).frame()

`harness` itself imports nothing; these names are loaded when they are first used.
"""

from __future__ import annotations

import logging
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.store import DONE, Store
from harness.store.at_work import at_work
from harness.store.records import Maps
from methods import plugins as outside
from methods.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from methods.contract import Samples

log = logging.getLogger(__name__)

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Results:
    """What a store has of a launch."""

    store: Store
    launch: Mapping[str, Any]

    def frame(self) -> pd.DataFrame:
        """One row a cell: what it is, key, status, every metric (shares in [0, 1]), cost."""
        from reports.numbers.frame import results_frame

        return results_frame(self.store, dict(self.launch))

    def scores(self, cell: str | Mapping[str, Any]) -> pd.DataFrame:
        """id, defect, label (1 anomalous) and score of each test image of a finished cell.

        cell: its key, or a row of `frame`
        """
        table = self._record(cell).scores()
        if table is None:
            raise UserError(f"no scores are stored of {_key(cell)}")
        return table.to_pandas()

    def maps(self, cell: str | Mapping[str, Any]) -> Maps:
        """Anomaly maps that were kept of a finished cell: ids (n,), values (n, H, W) float32."""
        found = self._record(cell).maps()
        if found is None:
            raise UserError(f"no maps are stored of {_key(cell)}: run with protocol.keep_maps=true")
        return found

    def _record(self, cell: str | Mapping[str, Any]) -> Any:
        record = self.store.result(_key(cell))
        if record is None or record.status != DONE:
            why = f" ({record.status}: {record.reason})" if record else ""
            raise UserError(f"{_key(cell)} in {self.store.path} is not done{why}")
        return record


def _key(cell: str | Mapping[str, Any]) -> str:
    return cell if isinstance(cell, str) else cell["key"]


def open_store(path: str | Path = "relief-store", launch: str | None = None) -> Results:
    """The results of a launch in a store, by default of the latest.

    Raises FileNotFoundError or UserError where there is none.
    """
    from harness.metrics.outside import join_of

    store = Store(path)
    found = store.launch(launch)
    join_of(found, store.path)
    return Results(store, found)


def run(
    config: str = "demo",
    overrides: Sequence[str] = (),
    *,
    store: str | Path = "relief-store",
    data: str | Path | None = None,
    background: str | None = None,
    plugins: Sequence[str] = (),
    serial: bool = False,
    workers: int | None = None,
    gpus: int | None = None,
    address: str | None = None,
) -> Results:
    """As `relief run CONFIG KEY=VALUE...`, without display and report; what is done stays done.

    plugins: files, folders and modules. Raises UserError for a configuration that cannot be run;
    cells that fail are rows of `frame` with their reason.
    """
    from harness.engine.driver import Driver
    from harness.engine.executors import InProcess
    from harness.engine.live import Live
    from harness.engine.nodes import admit
    from harness.engine.on_ray import OnRay
    from harness.metrics.outside import join
    from harness.planning import config as configs
    from harness.planning.expand import build

    outside.use([*outside.given(), *plugins])
    root = None if data is None else str(data)
    where = Store(store)
    plan = build(configs.load(config, overrides, root, background), where.filed_as)
    join()
    schedule = plan.config.schedule
    where.check_writable()
    if not (pending := plan.pending(where)):
        return Results(where, plan.record(where))
    with at_work(where, plan.launch_id, log.warning):  # for `relief status --watch`, and others
        launch = plan.record(where)
        executor = InProcess() if serial else OnRay(address, workers, gpus, schedule.isolation)
        try:
            admit(executor, plan, where, log.warning)
        except BaseException:
            executor.close()
            raise
        driver = Driver(plan, where, executor, schedule, pending=pending)
        with Live(where, launch["id"], len(pending)) as live:
            driver.run(lambda running: live.tell(driver))
    return Results(where, launch)


class Fitted:
    """A method that was fitted on arrays. folder: of its stages, which goes with it."""

    def __init__(self, method: Any, folder: tempfile.TemporaryDirectory):
        self.method, self.folder = method, folder

    def predict(self, arrays: Arrays, batch: int = 8) -> tuple[np.ndarray, np.ndarray]:
        """Maps (N, H, W) and scores (N,) float32; higher is more anomalous.

        Raises TypeError or ValueError if the method predicts something else.
        """
        from harness.engine.early import check_prediction

        found = []
        for part in _samples(arrays, "test").batches(batch, self.method.run.device):
            found.append(self.method.predict(part))
            check_prediction(self.method.name, found[-1], part.ids, None)
        maps, scores = zip(*((one.maps.cpu().numpy(), one.scores.cpu().numpy()) for one in found))
        return np.concatenate(maps), np.concatenate(scores)


def fit(
    method: str,
    train: Arrays,
    validation: Arrays | None = None,
    *,
    setting: str = "rgb+3d",
    overrides: Sequence[str] = (),
    seed: int = 0,
    device: str = "cpu",
    plugins: Sequence[str] = (),
) -> Fitted:
    """Fit a method, with its stages, on normal samples: the arrays of its view (N, ...) by name.

    `relief list views` prints them. overrides: settings, e.g. "das3d.train.steps=100".
    """
    import methods
    from harness.planning.config import settings_of
    from methods.standalone import Standalone

    outside.use([*outside.given(), *plugins])
    normal = _samples(train, "train")
    none = {name: array[:0] for name, array in train.items()}
    other = _samples(none if validation is None else validation, "validation")
    folder = tempfile.TemporaryDirectory(prefix="relief-fit-")

    def fresh(name: str) -> Path:
        made = Path(folder.name) / f"{name}-{uuid.uuid4().hex[:6]}"
        made.mkdir()
        return made

    settings, data = settings_of(method, overrides), {"train": normal, "validation": other}
    alone = Standalone(methods.get(method), settings, setting, data, fresh, device=device)
    return Fitted(alone.fit(seed=seed), folder)


def _samples(arrays: Arrays, split: str) -> Samples:
    from methods.contract import Samples

    if not isinstance(arrays, Mapping) or not arrays:
        kind = type(arrays).__name__
        raise UserError(f"arrays of a view by name are wanted, {{'depth': array}}, and no {kind}")
    given = {name: np.asarray(array) for name, array in arrays.items()}
    counts = {name: len(array) if array.ndim else None for name, array in given.items()}
    if len(set(counts.values())) != 1 or None in counts.values():
        raise UserError(f"arrays must have one row a sample, and of one number: {counts}")
    count = len(next(iter(given.values())))
    if not count and split != "validation":
        raise UserError(f"the arrays of {split} samples hold none")
    return Samples(given, tuple(f"{split}/{i}" for i in range(count)))
