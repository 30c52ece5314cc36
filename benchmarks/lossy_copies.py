"""How far a prediction moves where a clip is encoded: copies in AAC, MP3 and Opus against the same clip as WAV.

The difference of a copy is the largest change of a probability. At usual rates (the first five rows) it should stay
below 0.1.

python -m benchmarks.lossy_copies --root /corpora/TESS /corpora/EMOVO --clips 14
"""

import argparse
import tempfile
from pathlib import Path

import av
import numpy as np
import soundfile

from serx import Predictor
from serx.data.audio.decoding import audio_files

OPUS_RATE = 48_000
CODECS = {  # file ending, encoder, bit/s, options
    "AAC 128 kbit/s": ("m4a", "aac", 128_000, {}),
    "MP3 128": ("mp3", "mp3", 128_000, {}),
    "MP3 64": ("mp3", "mp3", 64_000, {}),
    "Opus 64": ("webm", "libopus", 64_000, {}),
    "AAC 64": ("m4a", "aac", 64_000, {}),
    "AAC 48": ("m4a", "aac", 48_000, {}),
    "Opus 24": ("opus", "libopus", 24_000, {}),
    "Opus 32, voip": ("opus", "libopus", 32_000, {"application": "voip"}),
}


def encode(path: Path, wave: np.ndarray, rate: int, encoder: str, bit_rate: int, options: dict[str, str]) -> None:
    """Writes `wave (T,)` float32 at `rate` to `path`."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(encoder, rate=OPUS_RATE if encoder == "libopus" else rate, layout="mono")
        stream.options = options
        stream.bit_rate = bit_rate
        stream.codec_context.open()
        frame = av.AudioFrame.from_ndarray((wave * 32767).clip(-32768, 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.pts = rate, 0
        size = stream.codec_context.frame_size
        converter = av.AudioResampler(stream.format.name, "mono", stream.rate, frame_size=size)
        for part in [*converter.resample(frame), *converter.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", metavar="FILE", help="default: the model that ships with serx")
    parser.add_argument("--root", required=True, nargs="+", metavar="DIR", help="folders of recordings")
    parser.add_argument("--clips", type=int, default=14, metavar="N", help="of each folder, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    predictor = Predictor.load(arguments.checkpoint) if arguments.checkpoint else Predictor.load()
    random = np.random.default_rng(arguments.seed)
    differences: dict[str, list[float]] = {name: [] for name in CODECS}
    decisions, unlike = dict.fromkeys(CODECS, 0), dict.fromkeys(CODECS, 0)
    with tempfile.TemporaryDirectory() as folder:
        for root in arguments.root:
            files = audio_files([root])
            for index in random.permutation(len(files))[: arguments.clips]:
                samples, rate = soundfile.read(files[index], dtype="float32", always_2d=True)
                wave, original = samples.mean(axis=1), Path(folder, "original.wav")
                soundfile.write(original, wave, rate)
                expected = predictor(original)
                for name, (ending, encoder, bit_rate, options) in CODECS.items():
                    copy = Path(folder, f"copy.{ending}")
                    encode(copy, wave, rate, encoder, bit_rate, options)
                    found = predictor(copy)
                    changes = [abs(found.probabilities[label] - p) for label, p in expected.probabilities.items()]
                    differences[name].append(max(changes))
                    decisions[name] += found.label != expected.label
                    unlike[name] += bool(found.ood) and not expected.ood
    count = len(next(iter(differences.values())))
    print(f"{count} clips. Unlike the training: reported so, while the original is not.\n")
    print("| copy | mean | 95 % are below | largest | above 0.1 | another emotion | unlike the training |")
    print("|---|---|---|---|---|---|---|")
    for name, values in differences.items():
        row = np.array(values)
        print(
            f"| {name} | {row.mean():.3f} | {np.quantile(row, 0.95):.2f} | {row.max():.2f} "
            f"| {np.count_nonzero(row > 0.1)} | {decisions[name]} | {unlike[name]} |"
        )


if __name__ == "__main__":
    main()
