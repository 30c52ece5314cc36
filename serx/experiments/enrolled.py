"""Cross-validation with known voices: the checkpoints of the finished folds hear their test speakers once more.

Nothing is trained again, so that the two sets of figures differ in nothing but that each voice is enrolled.
"""

from pathlib import Path

from serx.config import Config
from serx.data.dataset import load_dataset
from serx.errors import ConfigError, DataError
from serx.experiments.cross_validation import Ended, conclude, evaluate_command
from serx.experiments.folds import Fold, plan_folds, read_fold
from serx.experiments.visit import Workplace, visit_folds
from serx.recognizer import Recognizer
from serx.training.folder import BEST, hold
from serx.training.narration import say

ENROLLED = "enrolled"  # the folder of such an evaluation within a fold's, and of all of them within the whole's


def refuse_unenrollable(config: Config) -> None:
    """Before anything is trained.

    Raises:
        ConfigError: the recipe enrols voices by itself, or its model has nothing to enrol them in.
    """
    if config.model.enrol:
        raise ConfigError(
            "--enrol: with model.enrol every voice is enrolled already, and the figures without beside it"
        )
    asked = config.model.model_copy(update={"enrol": True})
    Recognizer(config.features, asked, ("any", "other"), config.data.sample_rate)


def enrol_folds(config: Config, out: Path, place: Workplace) -> Ended:
    """Evaluates every finished fold in `out` with its voices enrolled; what they come to goes into `out/enrolled`.

    Raises:
        ConfigError: `out` holds folds of other settings or clips.
        DiskError: `out` cannot be written.
        RunInUseError: a cross-validation is at work there.
    """
    if config.model.enrol:
        raise ConfigError(
            "--enrol: with model.enrol every voice is enrolled already, and the figures without beside it"
        )
    with hold(out, "--out"):
        planned, _ = plan_folds(config, load_dataset(config.data), out, seeds=())
        finished = [fold for fold in planned if fold.state == "finished"]
        heard = [fold for fold in finished if _is_heard(fold)]
        to_do = [fold for fold in finished if fold not in heard]
        say(f"voices enrolled: {len(finished)} folds, {len(heard)} heard, {len(to_do)} to do, in {out}")

        def commands(fold: Fold, slot: int) -> list[list[str]]:
            return [[*evaluate_command(fold, ENROLLED, place, slot), "--enrol"]]

        visit = visit_folds(to_do, commands, ENROLLED, place)
        missing = [*visit.missing, *(fold for fold in planned if fold.state != "finished")]
        extra = {"config": config.model_dump(mode="json")}
        return conclude(out / ENROLLED, ENROLLED, [*heard, *visit.done], missing, visit, extra)


def _is_heard(fold: Fold) -> bool:
    """Whether the voices were enrolled with the weights that are there now."""
    try:
        read_fold(fold, ENROLLED)
        evaluated = (fold.folder / ENROLLED / "evaluation.json").stat().st_mtime
        return evaluated >= (fold.folder / BEST).stat().st_mtime
    except (DataError, OSError):
        return False
