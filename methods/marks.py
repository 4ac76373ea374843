"""What every table says beside a row; no torch here, so that reports may read it, too."""

from __future__ import annotations

DEMO, RANDOM_INIT, TEST_SELECTED, IMPORTED = "demo", "random-init", "test-selected", "imported"
BEST_VALIDATION = "best-validation"
UNTRAINED = "untrained"
VIEW_SUSPECT = "view-suspect"
ALTERED = "altered"
UNVERIFIED, MADE_DATA = "unverified data", "made data"
IMPORTED_MAPS = "imported maps"
EDITED, OLD_CODE = "edited-code", "old-code"
MEANING = {
    DEMO: "short demonstration run; the number does not measure the method",
    RANDOM_INIT: "backbone with random weights instead of the pretrained ones",
    UNTRAINED: "networks as they were drawn, for a training has no step; the number is the floor",
    TEST_SELECTED: "chosen by its score on the test set, as some papers did",
    BEST_VALIDATION: "the step that was best on validation samples, not the last",
    IMPORTED: "trained by others: the authors' checkpoint, not ours",
    IMPORTED_MAPS: "its maps were made elsewhere (`relief import`) and only scored here",
    EDITED: "by code of Relief that was changed here, as its record lists; not the released method",
    OLD_CODE: "by earlier code of Relief, or by today's under its name: somebody said that their "
    "results are the same (`--accept-old`)",
    ALTERED: "settings of the method or its data differ from the published ones",
    UNVERIFIED: "named as published data, but with other counts, sizes or forms of images: no "
    "published value is compared with it",
    MADE_DATA: "on scenes that Relief drew itself, whatever they are called: no published value is "
    "compared with it",
    VIEW_SUSPECT: "the preparation of the scans went wrong in many of them, and the number says "
    "little of the method: `relief data check`, `relief data show`",
}
UNJUDGED = (
    DEMO,
    RANDOM_INIT,
    UNTRAINED,
    ALTERED,
    EDITED,
    OLD_CODE,
)  # never said to agree with a paper or not
NOTED = (
    RANDOM_INIT,
    UNTRAINED,
    TEST_SELECTED,
    IMPORTED,
)  # a method's note that holds one marks the row
_SHOT = "-shot"


def few_shot(count: int) -> str:
    """The mark of a row that is trained on so many samples of a category: "5-shot"."""
    return f"{count}{_SHOT}"


def shots(mark: str) -> str | None:
    """The number in such a mark; None for others."""
    return mark.removesuffix(_SHOT) if mark.endswith(_SHOT) else None


def meaning(mark: str) -> str:
    if shots(mark):
        return "trained on so many samples of a category, drawn by seed"
    return MEANING.get(mark, "see the settings of the run")
