"""The commands about fitted models: relief models, relief predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.launch import DEFAULT_STORE, StorePath
from harness.cli.terminal import console, errors
from harness.store import Store
from methods.errors import UserError

EXIT_FAULTS = 1


def models(
    store: StorePath = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the fitted models in the store; `protocol.keep_models=true` of `run` keeps them."""
    from harness.store.models import models as stored

    found = stored(Store(store))
    if as_json:
        rows = [
            {"key": m.key, **m.identity, "bytes": m.bytes, "metrics": dict(m.record.metrics)}
            for m in found
        ]
        print(json.dumps(rows, indent=1))
        return
    if not found:
        console.print("no model: `relief run ... protocol.keep_models=true` keeps those it fits")
        return
    table = Table("key", "model", "I-AUROC", "MB")
    for model in found:
        value = model.record.metrics.get("i_auroc")
        shown = "-" if value is None else f"{100 * value:.1f}"
        table.add_row(model.key, escape(model.name), shown, f"{model.bytes / 1e6:.1f}")
    console.print(table)
    console.print("model: method/variant/setting/dataset/category/seed")


def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="A key or its start, or parts of a name: das3d/rgb+3d/cookie (relief models)."
        ),
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Colour images with clouds or depth beside, pairs COLOUR,GEOMETRY, or folders."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of maps, overlays and scores.csv.")],
    store: StorePath = DEFAULT_STORE,
    fpr: Annotated[
        Optional[float],
        typer.Option(help="Decide, letting this share of normal parts through as defective."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch: Annotated[int, typer.Option(min=1, help="Parts judged at once.")] = 8,
    given: Annotated[
        Optional[list[str]],
        typer.Option("--weights", metavar="SETTING=FILE", help="Where a file of weights is now."),
    ] = None,
) -> None:
    """Judge your own parts by a fitted model: maps, overlays, scores, and with --fpr decisions."""
    import torch

    from harness.data.parts import find_parts
    from harness.engine.answers import Answers, colours_of
    from harness.engine.interrupts import interruptible
    from harness.engine.models import load
    from harness.engine.predict import Fault, Threshold, normal_scores
    from harness.engine.predict import predict as judge
    from harness.store.models import find

    where = Store(store)
    stored = find(where, model)
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"--device is {device}: give cpu, or cuda where there is a GPU")
    ready = load(where, stored, torch.device(device), _pairs(given or []))
    refs = find_parts(images, stored.record.spec.category, ready.prepared.spec.reading)
    count = "one part" if len(refs) == 1 else f"{len(refs)} parts"
    console.print(f"{stored.key} {escape(stored.name)}: {count}", soft_wrap=True)
    threshold = None
    if fpr is not None:
        threshold = Threshold.of(normal_scores(ready, batch), fpr)
        console.print(
            f"threshold {threshold.value:.6g}: at most {fpr:g} of normal parts score higher, on "
            f"average; it rests on {len(threshold.normal)} normal validation samples",
            soft_wrap=True,
        )
    answers = Answers(out.expanduser().resolve(), *colours_of(stored.record), threshold)
    faults = 0
    with interruptible():
        for found in judge(ready, refs, batch):
            answers.add(found)
            if isinstance(found, Fault):
                faults += 1
                errors.print(f"[red]not judged[/red]: {escape(str(found.error))}", soft_wrap=True)
    console.print(f"scores {escape(str(answers.write()))}", soft_wrap=True)
    if faults:
        raise typer.Exit(EXIT_FAULTS)


def _pairs(given: list[str]) -> dict[str, str]:
    """SETTING=FILE texts by setting."""
    found = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise UserError(f"--weights {text}: give SETTING=FILE, e.g. weights.rgb=dino.pth")
        found[name] = path
    return found
