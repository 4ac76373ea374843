"""M3DM: memory banks of frozen DINO and Point-MAE features, fused, and a decision over them.

Sections are those of methods/m3dm/README.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from methods.blocks.bank_of_products import memory_bank
from methods.blocks.coreset import greedy_coreset, projection_matrix
from methods.blocks.maps import enlarged
from methods.blocks.memory_bank import MemoryBank, reweighted_score
from methods.blocks.training import weight_sizes
from methods.blocks.weights import Fit
from methods.contract import Batch, Method, Prediction, Progress, Run, Samples, save_tensors
from methods.m3dm import declaration
from methods.m3dm.declaration import feature_stages, uff_file, weights_used
from methods.m3dm.features import Features, PointFeatures, RgbFeatures
from methods.m3dm.fusion import fit_svm, smooth_maps
from methods.m3dm.patches import Patches
from methods.m3dm.pfa import group_map
from methods.m3dm.settings import Settings
from methods.m3dm.uff import FeatureFusion
from methods.m3dm.uff_stage import FILE, UffStage
from methods.m3dm.weights import (
    image_net,
    load_uff,
    make_uff,
    point_net,
    published_point,
)
from methods.marks import RANDOM_INIT
from methods.seeds import seed_for

COLUMN = {"xyz": 0, "rgb": 1, "fusion": 2}  # of the weights of the decision


class M3dm(declaration.M3dm, Method):
    stages = {stage.name: stage for stage in (RgbFeatures, PointFeatures, UffStage)}

    def __init__(self, settings: Settings, setting: str, run: Run | None = None):
        super().__init__(settings, setting, run)
        self.names = settings.banks_of(setting)
        self.several = len(self.names) > 1
        self.banks: dict[str, MemoryBank] = {}
        self.moments = dict.fromkeys(self.names, (0.0, 1.0))  # shift and scale of a bank
        self.decision: dict[str, torch.Tensor] = {}  # weights (K,) of the SVMs
        columns = [COLUMN[name] for name in self.names]
        dlf = {"scores": settings.dlf.score_weights, "maps": settings.dlf.map_weights}
        self.weights = {  # (K,) of the banks in the decision
            what: torch.tensor([weights[i] for i in columns], device=self.run.device)
            for what, weights in dlf.items()
        }
        features = Features(feature_stages(settings, setting), self.run, self.run.category)
        self.patches = Patches(features, settings.pfa)

    @classmethod
    def published(cls, settings: Settings, setting: str) -> dict[str, Callable[[Path], Fit]]:
        return {"weights.point": published_point(settings.point)} if "3d" in setting else {}

    def fit(self, train: Samples, validation: Samples) -> None:
        self.patches.uff = self._fusion_network(train)
        self.patches.remember(True)
        state = self.run.load_checkpoint() or {"banks": {}}
        self.moments = state.get("moments") or self._moments(train)
        rows = {name: bank.to(self.run.device) for name, bank in state["banks"].items()}
        for name in self.names:
            if name not in rows:
                rows[name] = self._bank_rows(train, name, rows)
                self.run.save_checkpoint(lambda: {"banks": rows, "moments": self.moments})
        self.banks = self._banks(rows)
        if self.several and self.settings.decision == "dlf":
            self.decision = self._fit_decision(train)
        self.patches.remember(False)

    def _fusion_network(self, train: Samples) -> FeatureFusion | None:
        s, device = self.settings, self.run.device
        if "uff" not in weights_used(s, self.setting):
            return None
        features = self.patches.features(train.batch([0], device))
        sizes = features["point"].shape[2], features["rgb"].shape[1]
        net = make_uff(*sizes, s.uff.ratio, s.uff.head)
        if s.weights.uff != RANDOM_INIT:
            if s.weights.uff is None and UffStage.name not in self.run.stages:
                raise ValueError(
                    "m3dm: no fusion network: run the stage 'uff' first and hand its folder over "
                    f"in run.stages, or set m3dm.weights.uff to a file or to {RANDOM_INIT}"
                )
            path = uff_file(s.weights.uff) if s.weights.uff else self.run.stages["uff"] / FILE
            load_uff(net, path)
        return net.to(device).eval().requires_grad_(False)

    def _batches(self, samples: Samples, phase: str):
        """(first sample, batch), with reports."""
        for batch, start in zip(
            samples.batches(self.settings.batch, self.run.device),
            range(0, len(samples), self.settings.batch),
        ):
            yield start, batch
            self.run.report(Progress(phase, start + len(batch), len(samples)))

    def _moments(self, train: Samples) -> dict[str, tuple[float, float]]:
        """Shift and scale of each bank, over all its elements (section 6.2)."""
        how, sums = self.settings.score.statistics, {}
        shared = self.several and how == "official"
        wanted = ("xyz", "rgb") if shared else self.names
        if how == "none" or (how == "official" and self.names in (("xyz",), ("fusion",))):
            return dict.fromkeys(self.names, (0.0, 1.0))
        for _, batch in self._batches(train, "statistics"):
            for name, x in self._named(batch, wanted).items():
                x = x.double()
                part = np.array([x.numel(), float(x.sum()), float(x.square().sum())])
                sums[name] = sums.get(name, 0) + part
        found = {}
        for name, (count, total, squares) in sums.items():
            mean = float(total / count)
            found[name] = mean, float(np.sqrt((squares - count * mean**2) / (count - 1)))
        if shared:  # the code's mix, kept by its author: one scale for all, and a shift
            return dict.fromkeys(self.names, (found["xyz"][0], found["rgb"][1]))
        return found

    def _named(self, batch: Batch, names: tuple[str, ...], late: bool = False):
        found = self.patches(batch, names, late)
        return {name: found[name] for name in names}

    def _normalised(self, name: str, patches: torch.Tensor) -> torch.Tensor:
        shift, scale = self.moments[name]
        return (patches - shift).div_(scale)

    def _bank_rows(self, train: Samples, name: str, before: dict[str, torch.Tensor]):
        """The coreset of one bank (M, C), in the order of its choice (section 6.3).

        Only the projected rows of all samples are held at once, not the features themselves.
        """
        s, device = self.settings.coreset, self.run.device
        z, projection = None, None
        for start, batch in self._batches(train, f"project {name}"):
            x = self._normalised(name, self._named(batch, (name,))[name])  # (B, P, C)
            if z is None:
                each, total = x.shape[1], x.shape[1] * len(train)
                count = self._wanted(total, before)
                if count < total:
                    seed = seed_for("projection", self.run.category, self.run.seed, name)
                    matrix = projection_matrix(total, x.shape[2], s.eps, seed)
                    projection = None if matrix is None else torch.from_numpy(matrix).to(device)
                width = x.shape[2] if projection is None else len(projection)
                z = x.new_empty(total, width)
            x = x.flatten(0, 1)
            z[start * each : start * each + len(x)] = x if projection is None else x @ projection.T
        if count == total:
            return z
        chosen = greedy_coreset(z, count, s.dtype, self._report(f"coreset {name}"))
        if projection is None:
            return z[chosen]
        del z
        rows = None
        for start, batch in self._batches(train, f"gather {name}"):
            here = (chosen >= start * each) & (chosen < (start + len(batch)) * each)
            if not here.any():
                continue
            x = self._normalised(name, self._named(batch, (name,))[name]).flatten(0, 1)
            rows = x.new_empty(count, x.shape[1]) if rows is None else rows
            rows[here] = x[chosen[here] - start * each]
        return rows

    def _wanted(self, total: int, before: dict[str, torch.Tensor]) -> int:
        """Rows of a coreset. As published, later banks are sized by the reduced first one."""
        s = self.settings.coreset
        if s.share == 1:
            return total
        first = len(next(iter(before.values()))) if before else total
        return max(1, int(s.share * (first if s.sizing == "official" else total)))

    def _report(self, phase: str):
        return lambda done, total: self.run.report(Progress(phase, done, total))

    def _banks(self, rows: dict[str, torch.Tensor]) -> dict[str, MemoryBank]:
        if self.names == ("xyz", "rgb", "fusion"):
            # Published for three banks: rows with a zero leave, and one row of zeros comes in.
            xyz = rows["xyz"]
            xyz = torch.cat([xyz[(xyz != 0).all(dim=1)], torch.zeros_like(xyz[:1])])
            rows = {**rows, "xyz": xyz}
        return {name: memory_bank(rows[name]) for name in self.names}

    def _fit_decision(self, train: Samples) -> dict[str, torch.Tensor]:
        """Both SVMs, on the scores and maps that the training samples get from the banks."""
        s, size = self.settings.dlf, self.settings.prep.size
        scores = np.empty((len(train), len(self.names)), np.float32)
        maps = np.empty((len(train), size, size, len(self.names)), np.float32)
        for start, batch in self._batches(train, "decision"):
            here = slice(start, start + len(batch))
            found = self._per_bank(batch, late=True)
            scores[here] = (found[0] * self.weights["scores"]).cpu().numpy()
            maps[here] = (found[1] * self.weights["maps"]).cpu().numpy()
        return {
            "scores": torch.from_numpy(fit_svm(scores, s)).float().to(self.run.device),
            "maps": torch.from_numpy(fit_svm(maps.reshape(-1, len(self.names)), s))
            .float()
            .to(self.run.device),
        }

    def _per_bank(self, batch: Batch, late: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (B, K) and maps (B, S, S, K) of the K banks."""
        s = self.settings.score
        found = self.patches(batch, self.names, late)
        dlf = self.settings.decision == "dlf"
        divisor = s.two_bank_divisor if self.names == ("xyz", "rgb") and dlf else 1.0
        eps = s.eps if self.names in (("xyz",), ("rgb",)) else 0.0
        scores, levels = [], []
        for name in self.names:
            x, bank = self._normalised(name, found[name]), self.banks[name]
            nearest = bank.nearest(x.flatten(0, 1))
            per_sample = zip(*(part.view(len(batch), -1) for part in nearest))
            scores.append(
                torch.stack(
                    [
                        reweighted_score(
                            bank, patches, type(nearest)(*near), s.neighbours, eps, divisor
                        )
                        for patches, near in zip(x, per_sample)
                    ]
                )
            )
            distances = nearest.distance.view(len(batch), -1)
            if self.settings.pfa.level == "group" and name == "xyz":
                levels.append(group_map(batch["xyz"], found["centres"], distances))
            else:
                levels.append(enlarged(distances, self.settings.prep.size))
        maps = smooth_maps(torch.cat(levels), s)  # at once: a blur on the host is waited for
        return torch.stack(scores, dim=1), torch.stack(maps.split(len(batch)), dim=3)

    @torch.inference_mode()
    def predict(self, batch: Batch) -> Prediction:
        scores, maps = self._per_bank(batch)
        if not self.several or self.settings.decision == "sum":
            return Prediction(maps.sum(dim=3), scores.sum(dim=1))
        return Prediction(
            maps @ (self.weights["maps"] * self.decision["maps"]),
            scores @ (self.weights["scores"] * self.decision["scores"]),
        )

    def save(self, folder: Path) -> None:
        uff = self.patches.uff
        save_tensors(
            folder / "model.pt",
            {
                "banks": {name: bank.rows for name, bank in self.banks.items()},
                "moments": self.moments,
                "decision": self.decision,
                "uff": uff.state_dict() if uff else None,
            },
        )

    def load(self, folder: Path) -> None:
        state = torch.load(folder / "model.pt", map_location=self.run.device, weights_only=True)
        self.banks = {name: memory_bank(rows) for name, rows in state["banks"].items()}
        self.moments, self.decision = state["moments"], state["decision"]
        if weights := state["uff"]:
            sizes = (len(weights[f"{part}_norm.weight"]) for part in ("xyz", "rgb"))
            net = FeatureFusion(*sizes, self.settings.uff.ratio, self.settings.uff.head)
            net.load_state_dict(weights)
            self.patches.uff = net.to(self.run.device).eval().requires_grad_(False)

    def sizes(self) -> dict[str, int]:
        s, used = self.settings, weights_used(self.settings, self.setting)
        nets = [self.patches.uff] if self.patches.uff else []
        with torch.device("meta"):  # there are none here where a stage kept their features
            nets += [image_net(s.rgb, s.prep.size)] if "rgb" in used else []
            nets += [point_net(s.point)] if "point" in used else []
        weights = weight_sizes(torch.nn.ModuleList(nets))
        banks = {f"{name}_rows": len(bank) for name, bank in self.banks.items()}
        held = sum(bank.rows.numel() * bank.rows.element_size() for bank in self.banks.values())
        return {**weights, **banks, "bank_bytes": held}

    def notes(self) -> dict[str, str]:
        w, used = self.settings.weights, weights_used(self.settings, self.setting)
        notes = {"weights": RANDOM_INIT} if RANDOM_INIT in [getattr(w, k) for k in used] else {}
        if "uff" in used:
            known = {None: "trained", RANDOM_INIT: RANDOM_INIT}
            notes["uff"] = known.get(w.uff, "file")
        return notes
