"""Twenty altered copies of each kind among real speech: how many are caught, and no other clip is called a copy."""

import os

import numpy as np
import pytest

from serx.data.copies.candidates import nominate
from serx.data.copies.pairs import MIN_CORRELATION, copies_among
from serx.data.copies.whitened_correlation import copy_correlation
from tests.conftest import RATE
from tests.data.copies.test_pairs import ALTERATIONS, decoded, fingerprints_of

COPIES = 20
MAX_MISSED = 6  # of 20 of any kind: pieces and rooms of clips that are short or whispered


@pytest.mark.long
@pytest.mark.speech
def test_altered_copies_among_real_speech_are_caught_without_a_false_alarm(speech_root, record_figure):
    pattern = os.environ.get("SERX_CORPORA", "*16k")
    paths = sorted(path for path in speech_root.glob(f"{pattern}/**/*") if path.suffix in (".flac", ".ogg"))
    waves = decoded(paths)
    chosen = np.random.default_rng(0).choice(len(paths), COPIES, replace=False)
    copied = [(kind, i, alter(waves[i].astype(float))) for kind, alter in ALTERATIONS.items() for i in chosen]
    n = len(waves)
    segments, altered = fingerprints_of(waves), fingerprints_of([copy for *_, copy in copied])
    every = [*waves, *(copy for *_, copy in copied)]
    candidates = nominate([*segments, *altered], [0] * n + [1] * len(copied))
    caught, wrong = dict.fromkeys(ALTERATIONS, 0), []
    for copy in copies_among(candidates, every.__getitem__, RATE):
        kind, source, _ = copied[copy.second - n]
        caught[kind] += int(copy.first == source)
        # ASED and RAVDESS hold some recordings twice themselves.
        if copy.first != source and copy_correlation(waves[copy.first], waves[source], RATE) < MIN_CORRELATION:
            wrong.append((kind, paths[copy.first].name, paths[source].name))
    record_figure(f"altered copies caught of {COPIES}: {', '.join(f'{kind} {k}' for kind, k in caught.items())}")
    assert min(caught.values()) >= COPIES - MAX_MISSED
    assert not wrong
