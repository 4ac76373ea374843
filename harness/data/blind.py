"""A split as a method sees it: nothing that it is given tells normal from defective.

Ids are opaque; test samples come in an order drawn by them, which a stage and a cell of a category
share; arrays are those of harness/data/cache.py, without names of files. `Blind` is the way back.
Ids are salted by what identifies the data (`Spec.data` of the view), which no method is given: the
same data have the same ids in every run, and nobody without the salt can make them of a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from methods.contract import Samples
from methods.seeds import opaque_id


@dataclass(frozen=True)
class Blind:
    """samples: for the method; names: the real ids, in the order of the files;
    rows (N,): sample i as the method sees them is names[rows[i]]."""

    samples: Samples
    names: tuple[str, ...]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


def blind(samples: Samples, category: str, salt: str, draw: bool = True) -> Blind:
    """What `open_split` gave, as a method may see it.

    salt: of the data, the same wherever samples of this category are shown
    draw: False keeps the order of the files, for samples to train on: all of them are normal, and
    the numbers of a training depend on it
    """
    ids = [opaque_id(salt, category, id) for id in samples.ids]
    if len(set(ids)) < len(ids):
        raise ValueError(f"two samples of {category} have the same name or the same opaque id")
    if not draw:
        return Blind(Samples(samples.arrays, tuple(ids)), samples.ids, np.arange(len(ids)))
    rows = np.argsort(np.array(ids, dtype=str), kind="stable")
    arrays: Any = {name: Drawn(array, rows) for name, array in samples.arrays.items()}
    return Blind(Samples(arrays, tuple(ids[i] for i in rows)), samples.ids, rows)


class Drawn:
    """An array (N, ...) with its rows in another order, read from the file when asked for."""

    def __init__(self, array: np.ndarray, rows: np.ndarray):
        self.__array, self.__rows = array, rows
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __len__(self) -> int:
        return len(self.__rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        first, *rest = index if isinstance(index, tuple) else (index,)
        return np.array(self.__array[(self.__rows[first], *rest)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)
