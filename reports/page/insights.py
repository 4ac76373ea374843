"""What the page shows below its leaderboards: charts and tables of breakdowns, ready to print."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from markupsafe import Markup

from harness.metrics.pareto import pareto_front
from harness.store import Results
from reports.forms.text import grouped
from reports.numbers import breakdowns
from reports.numbers.breakdowns import Hard, Methods, Modalities
from reports.numbers.leaderboard import Board
from reports.numbers.names import file_name, method_label, setting_label, setting_order
from reports.page import figures
from reports.page.figures import Axis, Series

CLASSES = ("good", "anomalous")  # of a histogram, in the order of its legend


@dataclass(frozen=True)
class Insight:
    """One dataset in one setting."""

    dataset: str
    setting: str
    legend: Markup
    charts: tuple[tuple[str, str, Markup], ...]  # short name, caption, chart
    histograms: tuple[tuple[str, str, Markup], ...]  # short name, method, chart
    names: tuple[str, ...]
    agreement: tuple[tuple[float, ...], ...]  # names x names
    hardest: tuple[Hard, ...]
    missing: tuple[str, ...]  # what the results lack


@dataclass(frozen=True)
class Found:
    """What each modality finds, one method on one dataset."""

    dataset: str
    method: str
    rows: tuple[Modalities, ...]


@dataclass(frozen=True)
class Speed:
    """Accuracy against speed of one dataset and setting."""

    dataset: str
    setting: str
    chart: Markup | None
    note: str = ""
    device: str = ""  # where several were timed


@dataclass(frozen=True)
class Insights:
    settings: list[Insight] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)

    def figures(self, speeds: list[Speed]) -> dict[str, str]:
        """Name of a file, without folder -> its SVG, for every chart of the page."""
        files = {}
        for part in self.settings:
            where = f"{part.dataset}, {setting_label(part.setting)}"
            titles = [(name, caption, chart, part.names) for name, caption, chart in part.charts]
            titles += [
                (f"scores-{name}", f"image scores of {method}", chart, CLASSES)
                for name, method, chart in part.histograms
            ]
            for name, caption, chart, legend in titles:
                file = file_name(f"{part.dataset}-{part.setting}-{name}") + ".svg"
                files[file] = figures.standalone(chart, where, caption, legend)
        for speed in speeds:
            if speed.chart is not None:
                device = f"-{speed.device}" if speed.device else ""
                name = f"{speed.dataset}-{speed.setting}-accuracy-speed{device}"
                where = f"{speed.dataset}, {setting_label(speed.setting)}"
                caption = f"I-AUROC against latency. {speed.note}".strip()
                files[file_name(name) + ".svg"] = figures.standalone(speed.chart, where, caption)
        return files


def insights(
    frame: pd.DataFrame, store: Results, scores: dict[str, pd.DataFrame], boards: list[Board]
) -> Insights:
    tree, everything = grouped(boards), Insights()
    for dataset, settings in tree.items():
        of_dataset = frame[frame["dataset"] == dataset]
        collected = {}
        for setting in sorted(settings, key=setting_order):
            part = of_dataset[of_dataset["setting"] == setting]
            collected[setting] = breakdowns.collect(part, scores)
            found = _insight(dataset, setting, part, store, collected[setting], settings[setting])
            everything.settings.append(found)
        rgb, depth = collected.get("rgb", {}), collected.get("3d", {})
        for name in rgb:
            if name in depth and (rows := breakdowns.modalities(rgb[name], depth[name])):
                everything.found.append(Found(dataset, method_label(*name), tuple(rows)))
    return everything


def _insight(
    dataset: str,
    setting: str,
    part: pd.DataFrame,
    store: Results,
    methods: Methods,
    boards: dict[str, Board],
) -> Insight:
    order = list(dict.fromkeys(zip(part["method"], part["variant"])))
    names = [method_label(*name) for name in order]
    missing = []
    charts = [
        (
            "aupro-limits",
            "AUPRO against the integration limit, every threshold",
            _limits(order, boards),
        ),
        ("pro", "PRO curves, mean over cells", _pro(order, part, store)),
        ("roc", "ROC curves over images, mean over categories", _roc(order, methods)),
    ]
    missing += [f"{title}: nothing stored" for _, title, chart in charts if chart is None]
    looked = "I-AUROC on validation samples while training, mean over cells"
    charts.append(("validation", looked, _looks(order, part, store)))  # few launches have it
    if not methods:
        missing.append("score histograms, agreement, hardest images: no image scores stored")
    known = [name for name in order if name in methods]
    table = breakdowns.agreement({name: methods[name] for name in known}).to_numpy()
    return Insight(
        dataset,
        setting,
        figures.legend(names),
        tuple((name, title, chart) for name, title, chart in charts if chart is not None),
        tuple(
            ("-".join(filter(None, name)), method_label(*name), _histogram(methods[name]))
            for name in known
        ),
        tuple(method_label(*name) for name in known),
        tuple(tuple(row) for row in table.tolist()),
        tuple(breakdowns.hardest(methods, method_label)),
        tuple(missing),
    )


def _limits(order: list[tuple], boards: dict[str, Board]) -> Markup | None:
    prefix = "aupro_exact_"
    limits = sorted(float(name.removeprefix(prefix)) for name in boards if name.startswith(prefix))
    if len(limits) < 2:
        return None
    series = []
    for style, name in enumerate(order):
        means = [_mean(boards[f"{prefix}{limit:g}"], name) for limit in limits]
        known = [(limit, mean) for limit, mean in zip(limits, means) if mean is not None]
        if known:
            x, y = [limit for limit, _ in known], [mean for _, mean in known]
            series.append(Series(method_label(*name), x, y, style))
    axes = (
        Axis("limit of the false-positive rate, %", limits[0], limits[-1], log=True, percent=True),
        _unit("AUPRO"),
    )
    return figures.lines("AUPRO against the limit", series, *axes) if series else None


def _pro(order: list[tuple], part: pd.DataFrame, store: Results) -> Markup | None:
    series = []
    for style, (method, variant) in enumerate(order):
        cells = part[(part["method"] == method) & (part["variant"] == variant)]
        curve = breakdowns.pro(store, cells)
        if curve is not None:
            name = method_label(method, variant)
            series.append(Series(name, breakdowns.PRO_FPR, curve, style))
    axes = (
        Axis("false-positive rate of pixels, %", 0, 0.3, percent=True),
        _unit("per-region overlap"),
    )
    return figures.lines("PRO curves", series, *axes) if series else None


def _roc(order: list[tuple], methods: Methods) -> Markup | None:
    series = [
        Series(method_label(*name), breakdowns.FPR, breakdowns.roc(methods[name]), style)
        for style, name in enumerate(order)
        if name in methods
    ]
    axes = Axis("false-positive rate of images, %", 0, 1, percent=True), _unit("true-positive rate")
    return figures.lines("ROC curves", series, *axes) if series else None


def _looks(order: list[tuple], part: pd.DataFrame, store: Results) -> Markup | None:
    series = []
    for style, (method, variant) in enumerate(order):
        cells = part[(part["method"] == method) & (part["variant"] == variant)]
        if (curve := breakdowns.looks(store, cells, "i_auroc")) is not None:
            series.append(Series(method_label(method, variant), *curve, style))
    axes = Axis("share of the training", 0, 1), _unit("I-AUROC, validation")
    return figures.lines("Validation while training", series, *axes) if series else None


def _histogram(categories: dict) -> Markup:
    good, bad = breakdowns.histogram(categories)
    edges = np.repeat(breakdowns.BINS, 2)[1:-1]
    top = max(0.1, float(np.ceil(max(good.max(), bad.max()) * 10) / 10))
    axes = Axis("score, in deviations of good images", edges[0], edges[-1]), Axis("share", 0, top)
    steps = zip(CLASSES, (good, bad))
    series = [Series(name, edges, np.repeat(values, 2)) for name, values in steps]
    return figures.lines("Histogram of image scores", series, *axes)


def speeds(boards: list[Board], cost: pd.DataFrame) -> list[Speed]:
    """Mean I-AUROC against the latency of single images, where both are known."""
    found = []
    for board in (b for b in boards if b.metric == "i_auroc"):
        rows = cost[(cost["dataset"] == board.dataset) & (cost["setting"] == board.setting)]
        timed = rows[rows["latency_p50_s"].notna()]
        devices = timed["device"].unique()
        for device in devices:
            found.append(_speed(board, timed[timed["device"] == device], device, len(devices) > 1))
        if not len(devices):
            found.append(Speed(board.dataset, board.setting, None, "no latency was measured"))
    return found


def _speed(board: Board, timed: pd.DataFrame, device: str, several: bool) -> Speed:
    points = []
    for row in timed.itertuples():
        mean = _mean(board, (row.method, row.variant))
        if mean is not None:
            name = method_label(row.method, row.variant)
            points.append(Series(name, [1000 * row.latency_p50_s], [mean]))
    note = "" if timed["speed_valid"].all() else "Some were measured on a shared device."
    note = f"On {device}. {note}" if several else note
    if not points:
        return Speed(board.dataset, board.setting, None, "no method with a latency is complete")
    xs, ys = [p.x[0] for p in points], [p.y[0] for p in points]
    x = Axis("median latency, ms", min(xs) / 1.6, max(xs) * 1.6, log=True)
    low = max(0.0, np.floor(min(ys) * 20 - 0.2) / 20)
    front = [(xs[i], ys[i]) for i in pareto_front([(-x, y) for x, y in zip(xs, ys)])]
    title = f"I-AUROC against latency, {setting_label(board.setting)}"
    chart = figures.scatter(
        title, points, x, Axis("I-AUROC, %", low, 1.0 if low < 1 else 1.05, percent=True), front
    )
    return Speed(board.dataset, board.setting, chart, note, device if several else "")


def _mean(board: Board, name: tuple[str, str]) -> float | None:
    row = board.row(*name)
    return None if row is None else row.mean.value


def _unit(label: str) -> Axis:
    return Axis(f"{label}, %", 0, 1, percent=True)
