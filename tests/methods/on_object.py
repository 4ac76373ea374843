"""How well a cell's maps tell a defect from the rest of its object, beside chance.

Chance is not one half: a map differs over a part without a defect, too, by a few large patches, and
defects do not lie anywhere on it. Of six images the mean AUROC strays by 0.1 from chance. So every
defective sample has a twin, the same part under the same noise without the defect, and the same
place is judged on both.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import ttest_rel
from sklearn.metrics import roc_auc_score

from harness.data.cache import open_split
from harness.data.synthetic import Spec
from harness.data.synthetic.generate import write_category
from tests.harness.data.scans import write_scan
from tests.harness.data.test_synthetic import make_twin


def write_with_twins(root: Path, spec: Spec) -> None:
    """The categories of a spec as files, its test samples and their twins, which count as good."""
    for category in spec.categories:
        write_category(root, category, spec)
        for folder, count in spec.counts(category).items():
            split, defect = folder.split("/")
            for i in range(count if split == "test" and defect != "good" else 0):
                rgb, xyz = make_twin(category, split, defect, i, spec)
                mask = np.zeros(rgb.shape[:2], np.uint8)
                write_scan(root / category / "test/good", f"{defect}_{i:03}", rgb, xyz, mask)


class Pairs:
    """A cell's maps of the samples with a kind of defect, each beside its twin's."""

    def __init__(self, job, store, defect: str, inside):
        """inside: a view's arrays -> the object's pixels (N, S, S) bool; the rest is easily told"""
        samples, truth = open_split(store.folder(job.spec["needs"]["view"]), "test")
        maps, inside = np.load(Path(store.folder(job.key)) / "maps.npy"), inside(samples.arrays)
        at = {id: i for i, id in enumerate(truth.ids)}
        found = []
        for id in (id for id, kind in zip(truth.ids, truth.defects) if kind == defect):
            i, twin = at[id], at[f"test/good/{defect}_{id.rpartition('/')[2]}"]
            place = truth.masks[i] > 0
            found.append([roc_auc_score(place[inside[j]], maps[j][inside[j]]) for j in (i, twin)])
        self.defective, self.twins = np.array(found).T  # AUROC of the place, each (N,)

    @property
    def gain(self) -> float:
        """What the defect adds to the AUROC of the place where it is, mean over the samples."""
        return float((self.defective - self.twins).mean())

    @property
    def chance(self) -> float:
        """How likely so large a gain is without any: a paired t-test, one-sided."""
        return float(ttest_rel(self.defective, self.twins, alternative="greater").pvalue)

    def __str__(self):
        of, twins = self.defective.mean(), self.twins.mean()
        return (
            f"AUROC {of:.3f}, of the twins {twins:.3f}, gain {self.gain:.3f}, p {self.chance:.2g}"
        )
