"""Recipes of published systems: each trains on corpora with the right names, and one override separates speakers."""

import json
import re
from pathlib import Path

import pytest
import soundfile
import torch

from serx import checkpoint
from serx.config.loader import load_config
from serx.data.dataset import load_dataset, split_dataset
from serx.training.run_folder import BEST, METRICS
from serx.training.trainer import fit
from tests.conftest import RATE, speechlike

ROOT = Path(__file__).parents[1]
PUBLISHED = sorted((ROOT / "configs" / "published").glob("*.yaml"))
WITH_COPIES = [path for path in PUBLISHED if load_config(path).augment.copies]
CODES = {
    "ravdess": {"neutral": "01", "calm": "02", "happy": "03", "angry": "05"},
    "cremad": {"neutral": "NEU", "happy": "HAP", "angry": "ANG"},
    "tess": {"neutral": "neutral", "happy": "happy", "angry": "angry"},
    "savee": {"neutral": "n", "happy": "h", "angry": "a"},
}
CORPORA = {"savee": ["savee"], "four": ["ravdess", "cremad", "tess", "savee"], "three": ["ravdess", "tess", "cremad"]}
SMALL = {
    "sequential": ["model.widths=[8]", "model.kernels=[3]", "model.pools=[[5, 2]]", "model.dropouts=[0.1]"],
    "mlp": ["model.widths=[16]"],
}


def clip_names(corpus: str) -> list[tuple[str, str, int]]:
    """File name, emotion and speaker number of a few clips by four speakers (two in TESS)."""
    clips = []
    for speaker in range(2 if corpus == "tess" else 4):
        for emotion, code in CODES[corpus].items():
            for take in (1, 2):
                name = {
                    "ravdess": f"RAVDESS/Actor_{speaker + 1:02d}/03-01-{code}-01-0{take}-01-{speaker + 1:02d}.wav",
                    "cremad": f"CREMAD/{1001 + speaker}_{('DFA', 'IEO')[take - 1]}_{code}_XX.wav",
                    "tess": f"TESS/{('OAF', 'YAF')[speaker % 2]}_{('back', 'bar')[take - 1]}_{code}.wav",
                    "savee": f"SAVEE/{('DC', 'JE', 'JK', 'KL')[speaker]}_{code}0{take}.wav",
                }[corpus]
                clips.append((name, emotion, speaker))
    return clips


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> Path:
    """A folder with all four corpora, filled with synthetic sounds of 0.8 to 1.2 seconds."""
    root, seed = tmp_path_factory.mktemp("corpora"), 0
    for corpus in CODES:
        for name, emotion, speaker in clip_names(corpus):
            path, seed = root / name, seed + 1
            path.parent.mkdir(parents=True, exist_ok=True)
            pitch = {"neutral": 120, "calm": 100, "happy": 180, "angry": 260}[emotion] * (1 + 0.03 * speaker)
            soundfile.write(path, speechlike(0.8 + 0.1 * (seed % 5), pitch, seed), RATE, subtype="PCM_16")
    return root


def corpus_folders(path: Path, corpora: Path) -> list[str]:
    """The folders of the corpora that a recipe is for."""
    return [str(corpora / name.upper()) for name in CORPORA.get(path.stem.split("_")[0], ["ravdess"])]


def small_config(path: Path, corpora: Path, *overrides: str):
    folders = corpus_folders(path, corpora)
    small = SMALL[load_config(path).model.kind]
    quick = ["train.epochs=1", "train.batch_size=8", "train.device=cpu", "train.threads=1"]
    return load_config(path, [f"data.root=[{', '.join(folders)}]", *quick, *small, *overrides])


@pytest.mark.slow
@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_recipe_trains_on_its_corpora(path, corpora, tmp_path):
    config = small_config(path, corpora)
    result = fit(config, tmp_path / "run", progress=False)
    assert (result.kept["valid"] or result.kept["train"])["loss"] < 100
    saved = checkpoint.load_run_checkpoint(tmp_path / "run" / BEST)
    assert "LEAKY" in saved.metadata["protocol"]
    assert all(torch.isfinite(tensor).all() for tensor in saved.tensors.values() if tensor.is_floating_point())


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_COPIES, ids=lambda path: path.stem)
def test_a_published_recipe_learns_its_training_clips(path, corpora, tmp_path):
    """Three or four emotions that differ by pitch: a recipe that underfits these underfits a corpus."""
    folder = corpus_folders(path, corpora)[0]
    overrides = [f"data.root={folder}", "train.batch_size=16", "train.device=cpu", "train.threads=1"]
    fit(load_config(path, overrides), tmp_path / "run", progress=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    uars = [line["train"]["uar"] for line in lines]
    assert uars[0] < 0.9, "these clips are learned at once, so that they would not show a recipe that underfits"
    assert max(uars) > 0.9


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_the_override_named_in_a_recipes_header_separates_the_speakers(path, corpora):
    header = path.read_text().split("data:\n")[0]
    assert "claim" in header.splitlines()[0].lower()
    assert f"--config published/{path.stem} " in header
    override = re.search(r"data\.protocol=\w+", header).group()
    for overrides, independent in (((), False), ((override,), True)):
        config = small_config(path, corpora, *overrides)
        split = split_dataset(load_dataset(config.data, progress=False), config.data, progress=False)
        assert split.speaker_independent is independent
        assert ("LEAKY" in split.stamp) is not independent


def test_every_published_system_has_a_recipe():
    assert [path.stem for path in PUBLISHED] == [
        "four_corpora_cnn1d", "ravdess_mfcc_cnn1d_v1", "ravdess_mfcc_cnn1d_v2", "ravdess_mlp", "savee_cnn1d",
        "three_corpora_cnn1d",
    ]  # fmt: skip
