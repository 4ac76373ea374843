"""A fitted model of the store made ready to predict (harness/store/models.py: which there are).

What it needs besides its files is found by the cell's record: the view's recipe and what that
learnt from the training samples, the stages, and the files of weights that it was computed with.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import methods
from harness.data.views.registry import builder_of
from harness.engine import numerics
from harness.engine.code import PLUGINS
from harness.engine.runners import recipe
from harness.planning.expand import tree_fingerprint
from harness.planning.values import set_dotted
from harness.store import Record, Spec, Store
from harness.store.models import Stored
from harness.store.records import MODEL
from methods import plugins
from methods.contract import Method, Run, View, settings_from
from methods.errors import UserError


@dataclass(frozen=True)
class Model:
    """A model made ready.

    view: the recipe, its background as it was chosen; prepared: the record of the cell's view
    """

    stored: Stored
    method: Method
    view: View
    prepared: Record
    device: torch.device

    @property
    def learnt(self) -> Mapping[str, float]:
        """What the view took from all training samples."""
        return self.prepared.summary.get("learnt", {})


def load(
    store: Store, stored: Stored, device: torch.device, given: Mapping[str, str] = {}
) -> Model:
    """The fitted method, every byte of its files checked; the process computes as its job did.

    given: dotted settings -> paths of weights, in place of those that its launch names. Raises
    DamagedError, and UserError for a model that this installation cannot use.
    """
    record, spec = stored.record, stored.record.spec
    record.check_contents(*stored.files)
    if device.type == "cpu":  # other threads sum in another order
        torch.set_num_threads(record.environment.get("threads") or torch.get_num_threads())
    numerics.settle(spec.values.get("numerics", {}))
    _check_code(store, record, spec.method, spec, methods.offered)
    cls = methods.get(spec.method)
    settings = _settings(store, record, cls, given)
    if (version := cls.version_of(settings)) != spec.values.get("version"):
        raise UserError(
            f"{stored.key} was fitted by version {spec.values.get('version')} of {spec.method}, "
            f"and this is version {version}: run its launch again"
        )
    stages = {name: _needed(store, key, stored).folder for name, key in spec.needs.stages.items()}
    run = Run(category=spec.category, seed=spec.seed, device=device, stages=stages)
    method = cls(settings, spec.setting, run)
    try:
        method.load(record.folder / MODEL)
    except UserError:
        raise
    except Exception as error:  # whatever a method's load may raise for files that are not its own
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{record.folder / MODEL} is no model of {stored.name}: {why}") from error
    prepared = _needed(store, spec.needs.named["view"], stored)
    view = prepared.spec.view["name"]
    _check_code(store, record, view, prepared.spec, lambda name: plugins.find("views", name))
    return Model(stored, method, _view(prepared), prepared, device)


def _check_code(
    store: Store,
    record: Record,
    name: str,
    spec: Spec,
    offered: Callable[[str], plugins.Offer | None],
) -> None:
    """Raise UserError unless the plug-in of a method or view is here, with the code of then."""
    code = spec.values.get("plugin")
    if code is None:
        return
    offer = offered(name)
    if offer is not None and offer.code == code:
        return
    launches = [
        one for one in store.launches() if any(record.key == c["key"] for c in one["cells"])
    ]
    sources = dict.fromkeys(
        source for one in launches for source in one["config"].get("plugins", ())
    )
    copies = sorted(map(str, (store.path / PLUGINS / code).glob("*")))
    ways = [f"--plugin {source}" for source in copies or ([] if offer else sources)]
    if offer is None:
        how = f"give {ways[0]}" if ways else "install the package that has it"
        raise UserError(f"{record.key} needs {name!r} of a plug-in that is not loaded: {how}")
    then = f", or give the code of then by {ways[0]} alone" if ways else ""
    raise UserError(
        f"{record.key} was fitted with {name!r} of code {code}, and {offer} has code {offer.code} "
        f"now: run its launch again{then}"
    )


def _needed(store: Store, key: str, stored: Stored) -> Record:
    try:
        return store.verified(key)
    except FileNotFoundError:
        raise UserError(
            f"{stored.name} builds on {key}, which is not in {store.path}: run its launch again"
        ) from None


def _view(prepared: Record) -> View:
    view = recipe(prepared.spec)
    if view.background == "auto":
        view = view.on(prepared.summary["background"]["chosen"])
    if builder_of(type(view)).learn and "learnt" not in prepared.summary:
        raise UserError(
            f"the view {prepared.key} does not say what it learnt from the training samples, since "
            f"an earlier version made it: move {prepared.folder} away and run its launch again"
        )
    return view


def _settings(store: Store, record: Record, cls: Any, given: Mapping[str, str]) -> Any:
    """As the cell had them, with paths of weights where they are on this machine."""
    spec = record.spec
    values, inputs = copy.deepcopy(dict(spec.settings)), spec.values.get("inputs", {})
    if unknown := sorted(set(given) - set(inputs)):
        had = ", ".join(inputs) or "none"
        raise UserError(f"{', '.join(unknown)}: {spec.method} had no such file; it had {had}")
    for dotted, fingerprint in inputs.items():
        for path in [given[dotted]] if dotted in given else _named(store, spec.method, dotted):
            if Path(path).exists() and tree_fingerprint(Path(path)) == fingerprint:
                set_dotted(values, dotted, path)
                break
            if dotted in given:
                raise UserError(f"{path} is not the file that {record.key} had as {dotted}")
    return settings_from(cls.Settings, values)


def _named(store: Store, method: str, dotted: str) -> list[str]:
    """Paths that launches of the store give for a setting, the latest first."""
    found = []
    for launch in reversed(store.launches()):
        value: Any = launch.get("config", {}).get(method, {})
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str) and value not in found:
            found.append(value)
    return found
