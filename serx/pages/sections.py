"""What the pages of an evaluation share: the head, learning curves, empty sections, and how to reproduce the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serx.metrics.intervals import few_speakers_warning
from serx.pages.clip_map import MIN_POINTS
from serx.pages.curves import learning_curves
from serx.pages.render import render


@dataclass(frozen=True)
class Reproduction:
    """How a page can be made again: command lines, and names and values such as the version of serx."""

    commands: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Absent:
    """Why a section of a page is empty, in sentences, and the commands that fill it."""

    why: str
    commands: Sequence[str] = ()


ABSENT = {
    "curves": Absent(
        "There is no metrics.jsonl beside the checkpoint. `serx train` writes it into the folder of a run: evaluate "
        "the checkpoint that is there."
    ),
    "stress": Absent(
        "Not measured. `serx stress` measures the scores under noise, reverberation, telephones and other levels; then "
        "make this page again."
    ),
    "map": Absent(f"A map needs {MIN_POINTS} clips or more that the model does not find all alike."),
    "saliency": Absent("The saliency was not computed; `serx explain FILE` does it for one recording."),
}
OF_ADAPTED = Absent(
    "There is no saliency, because the predictions are of models adapted to each speaker. "
    "`serx explain --adapt-to CLIPS FILE` explains such a prediction."
)
OF_WAVEFORMS = Absent(
    "There is no saliency here, because with a model that reads waveforms it takes minutes; `serx explain FILE` "
    "computes it for one recording, over time."
)


def render_results(
    template: str,
    scores: Mapping[str, Any],
    title: str,
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None,
    reproduction: Reproduction | None,
    absent: Mapping[str, Absent] | None,
    **sections: Any,
) -> str:
    """A page of results.

    Args:
        template: a file of `templates/`.
        scores: the content of evaluation.json or of cross_validation.json.
        title: the heading.
        curves: name of a run -> the lines of its metrics.jsonl.
        reproduction: of the page.
        absent: what is said where a section is empty, instead of `ABSENT`.
        sections: what the template shows beside these.
    """
    return render(
        template,
        title=title,
        e={"seeds": [], "warnings": [], "ood_fraction": None, **scores},
        few_speakers=few_speakers_warning(scores["n_speakers"]),
        folds=scores.get("folds", []),
        curves=learning_curves(curves or {}),
        absent={**ABSENT, **(absent or {})},
        reproduction=reproduction or Reproduction(),
        **sections,
    )
