"""Sentences and signs that all forms of the report share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.metrics import get
from methods.names import BASELINE
from reports.numbers.leaderboard import Board, Row
from reports.numbers.names import method_label, metric_label, metric_text
from reports.numbers.published import ABOVE, BELOW, UNJUDGED, UNKNOWN, WITHIN, Verdict

SIGNS = {WITHIN: "≈", ABOVE: "▲", BELOW: "▼", UNKNOWN: "?", UNJUDGED: "·"}
BELOW_SIGNS = {True: "†", False: "‡"}  # a baseline is ahead: beyond chance, or by its mean alone
INFERRED_SIGN = "°"
INFERRED_TEXT = (
    "a part of the paper's protocol is not published and ours is inferred, or is not as in its code"
)
VERDICT_KEY = (
    "≈ ours agrees within its error, ▲ ours is above, ▼ ours is below, ? error unknown, "
    "· not judged (a demo, random weights, other settings); "
    f"{INFERRED_SIGN} {INFERRED_TEXT}"
)


def points(value: float, digits: int = 1) -> str:
    """A difference in percentage points, with its sign."""
    return f"{100 * value:+.{digits}f}".replace("-", "−")


def interval_text(metric: str, bounds: tuple[float, float] | None) -> str:
    """ "92.0–94.2", in the metric's unit; empty where there is none."""
    return "–".join(metric_text(metric, bound) for bound in bounds or ())


def verdict_class(found: Verdict) -> str:
    """For colour: only what lies beyond the error has one."""
    return {ABOVE: "above", BELOW: "below"}.get(found.text, "within")


def unbounded_text(boards: Sequence[Board]) -> str:
    """Which metrics and which rows have no interval, and why; empty if all have one."""
    shown = {board.metric for board in boards if any(row.interval for row in board.rows)}
    others = dict.fromkeys(board.metric for board in boards if board.metric not in shown)
    bare = [m.label for m in map(get, others) if not m.of_images and m.weighted is None]
    rows = [row for board in boards for row in board.rows if row.alike]
    alike = dict.fromkeys(method_label(row.method, row.variant) for row in rows)
    why = {
        "a formula that does not say what each image does to it (`weighted` of "
        "harness.metrics.Metric)": bare,
        "scores or maps are the same everywhere, so no test image makes a difference": alike,
    }
    return "; ".join(f"{', '.join(names)}: {told}" for told, names in why.items() if names)


def signature_lines(boards: Iterable[Board]) -> list[str]:
    """How each metric was scored, and by which rows where these differ."""
    found: dict[str, dict[str, None]] = {}
    for board in boards:
        for row in board.rows:
            for signature in row.signatures:
                names = found.setdefault(signature, {})
                names[method_label(row.method, row.variant)] = None
    metrics: dict[str, list[str]] = {}
    for signature in found:
        metrics.setdefault(signature.partition("|")[0], []).append(signature)
    return [
        signature + (f" ({', '.join(found[signature])})" if len(several) > 1 else "")
        for several in metrics.values()
        for signature in several
    ]


def verdict_sign(found: Verdict) -> str:
    """With a mark where the verdict rests on inferred settings."""
    return SIGNS[found.text] + INFERRED_SIGN * bool(found.inferred)


def difference_text(found: Verdict) -> str:
    """Ours minus what the paper prints, with its interval: "−0.4 ±0.9", or "−0.4 (−1.2 to +0.3)"
    where it reaches further to one side.
    """
    difference = points(found.difference)
    if found.interval is None or found.margin is None:
        return difference
    low, high = map(points, found.interval)
    even = found.basis == "seeds"
    return (
        f"{difference} ±\u2009{100 * found.margin:.1f}"
        if even
        else f"{difference} ({low} to {high})"
    )


def quote_text(found: Verdict) -> str:
    """ "DAS3D, Table 1: 98.2; ours -0.4, within error (0.9, from seeds)"."""
    quoted = found.quote
    where = f"{method_label(quoted.source)}, {quoted.table}"
    error = "" if found.margin is None else f" ({100 * found.margin:.1f}, from {found.basis})"
    note = f". {quoted.note}" if quoted.note else ""
    value = f"{100 * quoted.value:.4g}"
    verdict = f"{where}: {value}; ours {points(found.difference)}, {found.text}{error}{note}"
    return f"{verdict}. Inferred: {'; '.join(found.inferred)}" if found.inferred else verdict


def test_text(board: Board) -> str:
    """Which test made the groups of a board."""
    if board.tested_on == "images":
        return (
            "Groups by a paired test on the test images of every category (I-AUROC: DeLong's), "
            "Holm's correction over all pairs."
        )
    if board.tested_on == "categories":
        return (
            f"Groups by flipping the signs of the differences of {len(board.categories)} "
            "categories, Holm's correction over all pairs."
        )
    if sum(bool(row.rank) for row in board.rows) < 2:
        return "No groups: there are no two complete rows to compare."
    return (
        "No groups: what each test image does to this metric is not known of every row, and "
        f"{len(board.categories)} categories are too few to tell rows apart by their signs."
    )


def below_sign(row: Row) -> str:
    """After the name of a row that a baseline is ahead of."""
    return BELOW_SIGNS[row.below.apart] if row.below else ""


def below_text(board: Board) -> str:
    """Footnotes to the signs on a board; empty without any."""
    of = metric_label(board.metric)
    tested = "the paired test that makes the groups"
    no_test = "nothing here can test the difference"
    how = {
        True: f"has a better mean {of}, and {tested} tells the two apart",
        False: f"has a better mean {of}; "
        + (f"{tested} does not tell the two apart" if board.tested_on else no_test),
    }
    found = {row.below.apart: row.below for row in board.rows if row.below}
    return " ".join(
        f"{BELOW_SIGNS[apart]} {method_label(BASELINE, found[apart].variant)} {how[apart]}."
        for apart in sorted(found, reverse=True)
    )
