"""Baselines: how far heights and colours lie from those of normal samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from methods.baseline import declaration
from methods.baseline.colour import lab
from methods.blocks.maps import window_mean
from methods.blocks.samples import unit_rgb
from methods.contract import Batch, Method, Prediction, Progress, Samples, save_tensors

DEVIATION = 1.4826  # standard deviations of a normal distribution per median absolute deviation
ROWS = 16  # of the image at once: their values of all samples are in memory
BATCH = 16  # training samples scored at once
PARTS = 4  # normal "image": every fourth row and column are enough for a median


@dataclass(frozen=True)
class Normal:
    """What a cue is on normal samples.

    middle, spread: (C, H, W), or (C, 1, 1) if the same all over the image; NaN where no sample had
    a value. scale (): the median of the training samples' scores.
    """

    middle: torch.Tensor
    spread: torch.Tensor
    scale: torch.Tensor


class Baseline(declaration.Baseline, Method):
    normal: dict[str, Normal]  # by cue

    def fit(self, train: Samples, validation: Samples) -> None:
        """validation has no part in it."""
        self.normal = {}
        for cue in self.settings.cues:
            middle, spread = self._statistics(cue, train)
            self.normal[cue] = Normal(middle, spread, torch.ones(()))
            self.normal[cue] = Normal(middle, spread, self._scale(cue, train))

    def _statistics(self, cue: str, train: Samples) -> tuple[torch.Tensor, torch.Tensor]:
        """Median and spread of the training samples, each (C, H, W) or (C, 1, 1)."""
        size, every = self.settings.prep.size, range(len(train))
        if self.settings.normal == "image":
            sparse = slice(None, None, PARTS)
            values = self._values(cue, _cut(train, sparse, sparse).batch(every, self.run.device))
            values = values.transpose(0, 1).flatten(1).T  # (N * H * W, C)
            middle, spread = middle_and_spread(values)
            return middle.view(-1, 1, 1), spread.view(-1, 1, 1)
        found = []
        for start in range(0, size, ROWS):
            rows = _cut(train, slice(start, start + ROWS))
            found.append(middle_and_spread(self._values(cue, rows.batch(every, self.run.device))))
            self.run.report(Progress(f"{cue} of normal samples", min(start + ROWS, size), size))
        return tuple(torch.cat(parts, dim=1) for parts in zip(*found))

    def _scale(self, cue: str, train: Samples) -> torch.Tensor:
        batches = train.batches(BATCH, self.run.device)
        scores = torch.cat([self._map(cue, batch).amax(dim=(1, 2)) for batch in batches])
        # Of depth that is missing most samples have none: then one pixel of the window is the unit.
        pixel = 1 / self.settings.window**2
        return scores.median().clamp(
            min=pixel if cue == "missing" else torch.finfo(scores.dtype).tiny
        )

    def _values(self, cue: str, batch: Batch) -> torch.Tensor:
        """(B, C, H, W): L*a*b*; height in metres, NaN where none; or 1 where depth is missing."""
        if cue == "colour":
            return lab(unit_rgb(batch["rgb"]))
        if cue == "missing":
            return (~batch["valid"])[:, None].float()
        return torch.where(batch["valid"], batch["height"], torch.nan)[:, None]

    def _map(self, cue: str, batch: Batch) -> torch.Tensor:
        """(B, H, W): root mean square over channels of the distance in spreads, smoothed."""
        normal = self.normal[cue]
        away = self._values(cue, batch) - normal.middle
        if cue == "missing":  # more of it is odd, less is not; and there is no noise to yes or no
            away = away.clamp(min=0)
        else:
            away = away / (normal.spread + self.settings.noise(cue))
        # What cannot be compared, because here or always the sensor saw nothing, is no anomaly.
        away = away.nan_to_num(nan=0.0).square().mean(dim=1).sqrt()
        return window_mean(away, self.settings.window) / normal.scale

    @torch.inference_mode()
    def predict(self, batch: Batch) -> Prediction:
        maps = torch.stack([self._map(cue, batch) for cue in self.settings.cues]).mean(dim=0)
        return Prediction(maps, maps.amax(dim=(1, 2)))

    def save(self, folder: Path) -> None:
        save_tensors(folder / "normal.pt", {cue: vars(found) for cue, found in self.normal.items()})

    def load(self, folder: Path) -> None:
        state = torch.load(folder / "normal.pt", self.run.device, weights_only=True)
        self.normal = {cue: Normal(**found) for cue, found in state.items()}

    def sizes(self) -> dict[str, int]:
        held = [tensor for found in self.normal.values() for tensor in vars(found).values()]
        return {
            "parameters": sum(tensor.numel() for tensor in held),
            "weight_bytes": sum(tensor.numel() * tensor.element_size() for tensor in held),
        }


def _cut(samples: Samples, *where: slice) -> Samples:
    """Those rows (and columns) of all arrays."""
    cut = {name: array[:, *where] for name, array in samples.arrays.items()}
    return Samples(cut, samples.ids)


def middle_and_spread(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Over the first axis, without NaN: median, and median absolute deviation as a deviation."""
    middle = values.nanmedian(dim=0).values
    return middle, DEVIATION * (values - middle).abs().nanmedian(dim=0).values
