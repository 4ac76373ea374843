"""Fitted models that stay in the store (`protocol.keep_models=true`): which there are.

A model is the `model/` of a cell; harness/engine/models.py makes one ready.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.store.records import DAMAGED, DONE, IDENTITY, MODEL, DamagedError, Record
from harness.store.store import Store
from methods.errors import UserError


@dataclass(frozen=True)
class Stored:
    """A cell whose fitted method is in the store."""

    record: Record

    @property
    def key(self) -> str:
        return self.record.key

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(name for name in self.record.files if name.startswith(f"{MODEL}/"))

    @property
    def bytes(self) -> int:
        return sum(self.record.files[name][0] for name in self.files)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """As in IDENTITY."""
        spec = self.record.spec
        labels = self.record.values.get("labels") or {}
        own = (spec.method, labels.get("variant", ""), spec.setting, labels.get("dataset", ""))
        return dict(zip(IDENTITY, (*own, spec.category, spec.seed)))

    @property
    def name(self) -> str:
        """ "das3d/untrained/rgb+3d/synthetic/cookie/0" """
        return "/".join(str(value) for value in self.identity.values() if value != "")


def models(store: Store) -> list[Stored]:
    """All there are, by name."""
    done = (store.path / "jobs").glob(f"*/{MODEL}")
    records = (store.result(folder.parent.name) for folder in done)
    found = (Stored(r) for r in records if r is not None and r.done and r.kind == "cell")
    return sorted((model for model in found if model.files), key=lambda model: model.name)


def find(store: Store, name: str) -> Stored:
    """The model of that key, start of a key, or name (parts of it in any order).

    Of a method and its variants the plain one is meant unless a variant is named. Raises UserError
    with the models there are if it is none or several; DamagedError if the files are damaged.
    """
    record = None if "/" in name else store.result(name)
    if record is not None and record.status != DONE:
        if record.status == DAMAGED:
            raise DamagedError(name, record.reason)
        raise UserError(f"{name} has no model: it is {record.status} ({record.reason})")
    there = models(store)
    if not there:
        raise UserError(
            f"no fitted model in {store.path}: protocol.keep_models=true of `relief run` keeps them"
        )
    words = name.split("/")
    found = [model for model in there if model.key.startswith(name)] if len(name) >= 4 else []
    if not found:
        found = [m for m in there if set(words) <= {str(v) for v in m.identity.values()}]
        plain = [model for model in found if not model.identity["variant"]]
        found = plain or found
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{model.key} ({model.name})" for model in (found or there)[:8])
    more = len(found or there) - 8
    listed += f" and {more} more" if more > 0 else ""
    what = f"{len(found)} models are" if found else "no model is"
    raise UserError(f"{what} {name!r}: give one of {listed}; `relief models` lists them")
