"""What a host does for a device at the papers' sizes: a Markdown table, counted on the fake one.

    python -m tests.device.papers [NAME ...] [--operators 12]

Networks have their published depths and random weights, banks the rows of `IMAGES` training images.
The figures are counts, so a loaded machine gives the same; every operator is computed by the CPU,
which takes some minutes in all. --operators: the most frequent ones of each row below the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import torch

from methods.contract import Run, Samples, settings_from
from methods.dbrn import settings as dbrn_settings
from methods.dbrn.method import Dbrn
from methods.shape_guided import settings as shape_guided_settings
from methods.shape_guided.method import ShapeGuided
from methods.shape_guided.patches import cut_cloud
from tests.benchmarks import bench_m3dm, bench_shape_guided
from tests.conftest import Parity
from tests.device import fake
from tests.device.fake import Counts
from tests.methods.tiny import SAMPLES

IMAGES = 240  # of a category


def m3dm(device: torch.device) -> Iterator[tuple[str, Counts]]:
    samples = bench_m3dm.make_samples(3)
    method, extract = bench_m3dm.ready_method(IMAGES, samples, device)
    known = method.patches.features
    batch = samples.batch([2], device)
    method.patches.features = extract
    method.predict(batch)
    for what, features in (("a new image", extract), ("the same, features known", known)):
        method.patches.features = features
        batch = samples.batch([2], device)
        with fake.counted() as found:
            method.predict(batch)
        yield f"M3DM, {what}", found


def shape_guided(device: torch.device) -> Iterator[tuple[str, Counts]]:
    settings = settings_from(shape_guided_settings.Settings, {"weights": bench_shape_guided.RANDOM})
    size = settings.prep.size
    train, test = (
        bench_shape_guided.scenes(n, size, seed, radius=0.22)
        for n, seed in ((bench_shape_guided.REMEMBERED, 0), (1, 9))
    )
    method = ShapeGuided(settings, "rgb+3d", Run(device=device))
    Parity("shape_guided").fill(method.shape)
    method.fit(train, train)
    method.memory = bench_shape_guided.enlarged(method.memory, IMAGES)
    method.predict(test.batch([0], device))
    batch = test.batch([0], device)
    with fake.counted() as found:
        method.predict(batch)
    yield "Shape-Guided, a new image", found
    batch = test.batch([0], device)
    with fake.counted() as found:
        cut_cloud(batch["xyz"][0], settings.patches, 0)
    yield "Shape-Guided, patches of an image", found


def dbrn(device: torch.device) -> Iterator[tuple[str, Counts]]:
    """Narrow ones of batches of one: what is launched does not depend on width and batch."""
    narrow = {"swin": {"width": 12, "heads": [1, 2, 2, 4]}, "disc": {"base": 4}}
    for net in ("swin_unet", "res_unet"):
        counts = []
        for steps in (1, 3):
            values = {"texture": {"source": "procedural"}, "recon": {"net": net, "width": 4}}
            train = {"steps": steps, "batch": 1}
            method = Dbrn(
                settings_from(dbrn_settings.Settings, {**values, **narrow, "train": train}),
                "rgb+3d",
            )
            samples = _enlarged(SAMPLES["dbrn"](), method.settings.prep.size)
            method = Dbrn(method.settings, "rgb+3d", Run(device=device))
            with fake.counted() as found:
                method.fit(samples, samples)
            counts.append(found)
        yield f"DBRN, a training step ({net})", _step(*counts, steps=2)


def _enlarged(samples, size: int):
    place = np.arange(size) * samples.arrays["rgb"].shape[1] // size
    arrays = {name: a[:2, place][:, :, place] for name, a in samples.arrays.items()}
    return Samples(arrays, samples.ids[:2])


def _step(few: Counts, many: Counts, steps: int) -> Counts:
    """What each of the steps more did."""
    names = ("launches", "syncs", "to_device", "to_host")
    found = Counts(*((getattr(many, n) - getattr(few, n)) // steps for n in names))
    found.operators = {
        name: (count - few.operators.get(name, 0)) // steps
        for name, count in many.operators.items()
    }
    found.waits = {k: (v - few.waits.get(k, 0)) // steps for k, v in many.waits.items()}
    return found


WORK: dict[str, Callable[[torch.device], Iterator[tuple[str, Counts]]]] = {
    "m3dm": m3dm,
    "shape_guided": shape_guided,
    "dbrn": dbrn,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *WORK])
    parser.add_argument("--operators", type=int, default=0)
    options = parser.parse_args()
    device = fake.load()
    print("| work | launches | waits | copies to the device |\n|---|---|---|---|")
    rows = []
    for name in options.names or WORK:
        for what, found in WORK[name](device):
            rows.append((what, found))
            print(
                f"| {what} | {found.launches:,} | {found.syncs} | {found.to_device} |", flush=True
            )
    for what, found in rows if options.operators else ():
        frequent = sorted(found.operators.items(), key=lambda item: -item[1])[: options.operators]
        print(f"\n{what}\n  launches: {dict(frequent)}\n  waits: {found.waits}")


if __name__ == "__main__":
    main()
