"""Few clips of a speaker, in many emotions or in one: UAR without adaptation, with it, and with it as they come.

With adaptation all clips of a group adapt and are predicted; as they come, each adapts together with those before it.

python -m benchmarks.adaptation --root /corpora/TESS --counts 3 5 10 20 50 --groups 20 --seed 1
"""

import argparse
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from serx import Predictor
from serx.data.dataset import Dataset, load_dataset
from serx.inference.adaptation import RunningAdaptation, adapted
from serx.recognizer import Recognizer

SHARES = {"all emotions": None, "70 % one emotion": 0.7, "one emotion": 1.0}  # of the clips that are of one emotion
BATCH = 16


def draw(
    dataset: Dataset, share: float | None, count: int, groups: int, random: np.random.Generator
) -> list[list[int]]:
    """Groups of `count` clips of one speaker; fewer where the speaker has no more of an emotion."""
    speakers = np.array([utterance.speaker_id for utterance in dataset.utterances])
    drawn = []
    for speaker in np.unique(speakers):
        for _ in range(groups):
            own = random.permutation(np.flatnonzero(speakers == speaker))
            if share is None:
                drawn.append(own[:count].tolist())
                continue
            emotion = random.choice(np.unique(dataset.targets[own]))
            same = own[dataset.targets[own] == emotion][: round(share * count)]
            other = own[dataset.targets[own] != emotion][: count - round(share * count)]
            drawn.append([*same.tolist(), *other.tolist()])
    return drawn


def predict(recognizer: Recognizer, clips: list[Tensor]) -> np.ndarray:
    """The most probable class of each clip `(T,)`."""
    batches = [clips[i : i + BATCH] for i in range(0, len(clips), BATCH)]
    return np.concatenate([
        recognizer.probabilities(pad_sequence(batch, batch_first=True), torch.tensor([len(clip) for clip in batch]))
        .argmax(1)
        .numpy()
        for batch in batches
    ])  # fmt: skip


def uar(found: np.ndarray, truth: np.ndarray) -> float:
    """In %, over the classes that occur."""
    return 100 * float(np.mean([(found[truth == label] == label).mean() for label in np.unique(truth)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", metavar="FILE", help="default: the model that ships with serx")
    parser.add_argument("--root", required=True, metavar="DIR", help="a corpus of new speakers")
    parser.add_argument("--counts", nargs="+", type=int, default=[3, 5, 10, 20], metavar="N", help="clips of a group")
    parser.add_argument("--groups", type=int, default=10, metavar="N", help="groups of each speaker")
    parser.add_argument("--speakers", type=int, default=24, metavar="N", help="speakers at most, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    predictor = Predictor.load(arguments.checkpoint) if arguments.checkpoint else Predictor.load()
    recognizer, random = predictor.recognizer, np.random.default_rng(arguments.seed)
    data = predictor.config.data.model_copy(update={"root": arguments.root, "corpora": None, "test_corpora": ()})
    dataset = load_dataset(data, recognizer.labels)
    cache = dataset.audio_cache
    names = sorted({utterance.speaker_id for utterance in dataset.utterances})
    chosen = set(random.permutation(names)[: arguments.speakers].tolist())
    recognizer.use_cache(cache.folder.parent / "encoders")
    print("clips  emotions          groups  without adaptation  with adaptation  as they come")
    for count in arguments.counts:
        for name, share in SHARES.items():
            groups = draw(dataset, share, count, arguments.groups, random)
            groups = [group for group in groups if dataset.utterances[group[0]].speaker_id in chosen]
            plain, with_adaptation, as_they_come, truth = [], [], [], []
            for group in groups:
                clips = [torch.from_numpy(cache.clip(i) * cache.scales[i]) for i in group]
                truth.append(dataset.targets[group])
                plain.append(predict(recognizer, clips))
                with adapted(recognizer, clips) if len(clips) > 1 else nullcontext():
                    with_adaptation.append(predict(recognizer, clips))
                running = RunningAdaptation(recognizer)
                for clip in clips:
                    with running.including(clip):
                        as_they_come.append(predict(recognizer, [clip]))
            scores = [
                uar(np.concatenate(found), np.concatenate(truth)) for found in (plain, with_adaptation, as_they_come)
            ]
            columns = f"{scores[0]:18.1f}  {scores[1]:15.1f}  {scores[2]:12.1f}"
            print(f"{count:5}  {name:16}  {len(groups):6}  {columns}", flush=True)


if __name__ == "__main__":
    main()
