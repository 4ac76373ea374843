"""Every view, once: its recipe, what its arrays are, and how they are made; ours and plug-ins'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from harness.data.samples import Sample
from harness.data.views import background, das3d, dbrn, dsr3d, m3dm, plain
from harness.data.views.recipes import ARRAYS, Array, offered
from harness.store.frames import Frame, Size
from methods import plugins
from methods.declaration import View
from methods.errors import UserError
from methods.views import Das3dView, DbrnView, Dsr3dView, M3dmView, PlainView, ShapeGuidedView

V = TypeVar("V", bound=View)


@dataclass(frozen=True)
class Builder(Generic[V]):
    """A view: its recipe, what its arrays are, and how they are made.

    prepare: (sample, view, seed) -> named arrays, "mask" among them.
    learn, finish: what needs all training samples. (arrays of that split, view) -> plain values,
    kept in the view's record; then (arrays of a split, view, these values) changes the arrays in
    place. Arrays that only these two need, `finish` takes out; their files go.
    frame: (view, size) -> what part of a sensor's image of that size the arrays' pixels cover; by
    default all of it.
    """

    registry: ClassVar[str] = "views"  # in a plug-in's file it is found by this
    recipe: type[V]
    prepare: Callable[[Sample, V, int], dict[str, np.ndarray]]
    learn: Callable[[Mapping[str, np.ndarray], V], dict[str, float]] | None = None
    finish: Callable[[dict[str, np.ndarray], V, Mapping[str, float]], None] | None = None
    arrays: tuple[Array, ...] = ()
    frame: Callable[[V, Size], Frame] = lambda view, size: Frame.whole(size)

    @property
    def name(self) -> str:
        return self.recipe.name


OWN: tuple[Builder[Any], ...] = (
    Builder(
        Das3dView, das3d.prepare, das3d.learn, das3d.finish, ARRAYS[Das3dView], background.frame
    ),
    Builder(M3dmView, m3dm.prepare, arrays=ARRAYS[M3dmView], frame=m3dm.frame),
    Builder(ShapeGuidedView, m3dm.prepare, arrays=ARRAYS[ShapeGuidedView], frame=m3dm.frame),
    Builder(DbrnView, dbrn.prepare, dbrn.learn, dbrn.finish, ARRAYS[DbrnView]),
    Builder(Dsr3dView, dsr3d.prepare, arrays=ARRAYS[Dsr3dView]),
    Builder(PlainView, plain.prepare, arrays=ARRAYS[PlainView]),
)
_BY_NAME = {view.name: view for view in OWN}
_BY_RECIPE: dict[type[View], Builder[Any]] = {view.recipe: view for view in OWN}


def view_named(name: str) -> Builder[Any]:
    """The view of that name, ours or a plug-in's. Raises UserError, PluginError."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    if (offer := plugins.find("views", name)) is None:
        known = ", ".join((*_BY_NAME, *plugins.names("views")))
        raise UserError(f"unknown view {name!r}; known: {known}")
    found = offer.load()
    if not isinstance(found, Builder) or found.name != name:
        raise plugins.PluginError(
            f"view {name!r} of plug-in {offer} is {found!r:.100}; it must be a "
            f"harness.data.views.registry.Builder whose recipe is called {name!r}"
        )
    return found


def builder_of(recipe: type[View]) -> Builder[Any]:
    """Raises UserError if nobody builds views of this class."""
    if recipe in _BY_RECIPE:
        return _BY_RECIPE[recipe]
    if offered(recipe) is not None and (found := view_named(recipe.name)).recipe is recipe:
        return found
    known = ", ".join(known.__name__ for known in _BY_RECIPE)
    raise UserError(
        f"no builder for {recipe.__name__}; known views: {known}; a plug-in's view needs a "
        "harness.data.views.registry.Builder (entry point relief.views, or in the same file)"
    )
