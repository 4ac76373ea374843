"""What papers print for a row of a leaderboard, where its data are the published ones."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from methods.marks import UNJUDGED as NO_TRY
from methods.marks import shots
from reports.numbers.board import Row
from reports.numbers.comparison import OTHER, comparison
from reports.numbers.published import UNJUDGED, Quote, Verdict, quote, quoted_mean, verdict


def quoted(
    row: Row,
    setting: str,
    metric: str,
    categories: tuple[str, ...],
    inputs: Collection[str] = (),
) -> Row:
    """The row with its published values; nothing where papers print nothing comparable.

    Of a row that is no try at the published result the values stand there, without a verdict.
    inputs: the settings that gave files to all of its cells
    """
    method, variant = row.method, _printed_variant(row)
    datasets = {row.data.get(c, "") for c in categories}
    judged = not set(row.marks) & set(NO_TRY)

    def against(printed: Quote | None, category: str | None = None) -> Verdict | None:
        ours = row.score(category).value
        if printed is None or ours is None:
            return None
        compared = comparison(printed.printed, inputs)
        if compared.compares == OTHER:
            return None
        found = verdict(ours, printed, row.spread(category), row.bounds(category))
        return replace(found, inferred=compared.reasons, text=found.text if judged else UNJUDGED)

    def printed(category: str) -> Quote | None:
        return quote(method, variant, row.data.get(category, ""), setting, metric, category)

    quotes = {c: found for c in categories if (found := against(printed(c), c))}
    if len(datasets) > 1 or not (dataset := "".join(datasets)):
        return replace(row, quotes=quotes)
    mean = quoted_mean(method, variant, dataset, setting, metric, categories)
    return replace(row, published=against(mean), quotes=quotes)


def _printed_variant(row: Row) -> str:
    """Papers print few-shot results as variants; here a mark tells of them."""
    few = [f"shot_{count}" for mark in row.marks if (count := shots(mark))]
    return "+".join(filter(None, (row.variant, *few)))
