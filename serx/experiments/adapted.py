"""Cross-validation with known voices: the checkpoints of the finished folds hear their test speakers once more.

Nothing is trained again, so that the two sets of figures differ in nothing but that each voice is enrolled.
"""

from pathlib import Path

from serx.config.loader import Config
from serx.data.dataset import load_dataset
from serx.errors import ConfigError, DataError
from serx.experiments.cross_validation import CrossValidationResult, conclude, evaluate_command
from serx.experiments.fold_runs import Workers, run_folds
from serx.experiments.folds import Fold, plan_folds, read_fold
from serx.recognizer import Recognizer
from serx.training.console import echo
from serx.training.run_folder import BEST, lock_run_folder

ADAPTED = "enrolled"  # the folder of such an evaluation within a fold's, and of all of them within the whole's


def check_can_adapt(config: Config) -> None:
    """Before anything is trained.

    Raises:
        ConfigError: the recipe enrols voices by itself, or its model has nothing to enrol them in.
    """
    if config.model.adapt:
        raise ConfigError(
            "--adapt: with model.adapt every voice is enrolled already, and the figures without beside it"
        )
    asked = config.model.model_copy(update={"adapt": True})
    Recognizer(config.features, asked, ("any", "other"), config.data.sample_rate)


def adapt_folds(config: Config, out: Path, place: Workers) -> CrossValidationResult:
    """Evaluates every finished fold in `out` with its voices enrolled; what they come to goes into `out/enrolled`.

    Raises:
        ConfigError: `out` holds folds of other settings or clips.
        DiskError: `out` cannot be written.
        RunInUseError: a cross-validation is at work there.
    """
    if config.model.adapt:
        raise ConfigError(
            "--adapt: with model.adapt every voice is enrolled already, and the figures without beside it"
        )
    with lock_run_folder(out, "--out"):
        planned, _ = plan_folds(config, load_dataset(config.data), out, seeds=())
        finished = [fold for fold in planned if fold.state == "finished"]
        heard = [fold for fold in finished if _is_heard(fold)]
        to_do = [fold for fold in finished if fold not in heard]
        echo(f"voices enrolled: {len(finished)} folds, {len(heard)} heard, {len(to_do)} to do, in {out}")

        def commands(fold: Fold, slot: int) -> list[list[str]]:
            return [[*evaluate_command(fold, ADAPTED, place, slot), "--adapt"]]

        fold_runs = run_folds(to_do, commands, ADAPTED, place)
        missing = [*fold_runs.missing, *(fold for fold in planned if fold.state != "finished")]
        extra = {"config": config.model_dump(mode="json")}
        return conclude(out / ADAPTED, ADAPTED, [*heard, *fold_runs.done], missing, fold_runs, extra)


def _is_heard(fold: Fold) -> bool:
    """Whether the voices were enrolled with the weights that are there now."""
    try:
        read_fold(fold, ADAPTED)
        evaluated = (fold.folder / ADAPTED / "evaluation.json").stat().st_mtime
        return evaluated >= (fold.folder / BEST).stat().st_mtime
    except (DataError, OSError):
        return False
