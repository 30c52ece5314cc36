"""A synthetic corpus: speakers and speaking styles made by a source-filter synthesizer, for demos and tests.

vocal_tract        phones, glottal pulses and formants -> samples
speaking_styles    speakers and eight emotional styles -> clips
corpus             clips -> WAV files with RAVDESS's names
"""

from serx.data.synthetic.corpus import holds_corpus, make_corpus
from serx.data.synthetic.speaking_styles import SyntheticSpeaker, synthesize_clip, synthesize_speaker

__all__ = ["SyntheticSpeaker", "holds_corpus", "make_corpus", "synthesize_clip", "synthesize_speaker"]
