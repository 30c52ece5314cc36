"""The demo answers as `serx predict` does, keeps its limits, and turns every fault into a sentence."""

import base64
import io
import re
import sys
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from serx.cli.main import main
from serx.data.audio.error import AudioError
from serx.demo import answers, app, html
from serx.demo.analysis import Analysis, Part, analyze, synthetic_conversation, synthetic_voice, voice_clips
from serx.demo.answers import CONVERSATION, MOST_PROBABLE, Demo, Session, voices
from serx.errors import ConfigError, DataError
from serx.inference.prediction import Prediction
from serx.inference.segmentation import RATE
from serx.plots import image_png
from tests.conftest import speechlike
from tests.inference.untrained import rated_predictor, untrained_predictor


@pytest.fixture(scope="module")
def predictor():
    return untrained_predictor()


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """A WAV file of eight synthetic sentences with pauses."""
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    soundfile.write(path, synthetic_conversation(), RATE)
    return path


@pytest.fixture
def demo(predictor, tmp_path):
    return Demo(predictor, tmp_path)


def text_of(page: str) -> str:
    return re.sub(r"<[^>]*>", "", page)


def half_a_recording() -> bytes:
    """The first half of a WAV file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, speechlike(0.6, 150, 0), RATE, format="WAV")
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


# Analysis


def test_a_short_recording_is_predicted_as_by_serx_predict(predictor, tmp_path):
    soundfile.write(tmp_path / "a.wav", speechlike(1.0, 150, 0), 44_100)
    analysis = analyze(predictor, tmp_path / "a.wav")
    assert analysis.prediction == predictor(tmp_path / "a.wav") and analysis.parts == () and analysis.note is None


def test_a_longer_recording_is_cut_into_its_sentences(predictor, talk):
    analysis = analyze(predictor, talk)
    assert analysis.prediction == predictor(talk)
    expected = list(predictor.stream(talk))
    assert len(analysis.parts) == len(expected) == 8
    recording = synthetic_conversation()
    for part, segment in zip(analysis.parts, expected, strict=True):
        assert (part.start, part.end, part.prediction) == (segment.start, segment.end, segment.prediction)
        first = round(part.start * RATE)
        np.testing.assert_allclose(part.samples, recording[first : first + len(part.samples)], atol=2)


def test_only_the_beginning_of_a_very_long_recording_is_analyzed(predictor, talk):
    settings = predictor.config.model_copy(
        update={"data": predictor.config.data.model_copy(update={"max_seconds": 3.0})}
    )
    short = SimpleNamespace(config=settings, stream=predictor.stream, pool=predictor.pool)
    analysis = analyze(short, talk, max_seconds=5.0)
    assert analysis.seconds == 5.0 and analysis.note == "Only the first 5.0 seconds were analyzed."
    assert len(analysis.parts) > 0 and analysis.parts[-1].end <= 5.0
    whole = analyze(short, talk)
    assert whole.note is None and len(whole.parts) == 8 and whole.seconds == pytest.approx(14.1, abs=0.3)
    assert whole.prediction.segments and whole.prediction.path == talk


def test_a_recording_that_takes_too_long_is_cut(predictor, talk):
    ticks = count()
    analysis = analyze(predictor, talk, max_analysis_seconds=2, clock=lambda: float(next(ticks)))
    assert "It took too long" in analysis.note and analysis.seconds < 14


def test_a_voice_needs_several_clips_and_few_minutes(predictor, tmp_path, talk):
    with pytest.raises(DataError, match="41 files are too many"):
        voice_clips(predictor, [talk] * 41)
    with pytest.raises(DataError, match="longer than 20.0 seconds in all"):
        voice_clips(predictor, [talk, talk], max_seconds=20)
    soundfile.write(tmp_path / "a.wav", speechlike(1.0, 150, 0), RATE)
    (tmp_path / "empty.wav").touch()
    with pytest.raises(DataError, match="too little speech"):
        voice_clips(predictor, [tmp_path / "a.wav", tmp_path / "empty.wav"])
    clips, skipped = voice_clips(predictor, [tmp_path / "a.wav", tmp_path / "empty.wav", talk])
    assert len(clips) == 9 and list(skipped) == [tmp_path / "empty.wav"]


# HTML


def test_what_a_user_named_is_escaped():
    hostile = '<img src=x onerror=alert(1)>"\u202e'
    prediction = Prediction(hostile, 0.9, {hostile: 0.9, "sad": 0.1}, hostile, warning=hostile)
    part = Part(0.0, np.zeros(RATE, np.int16), prediction)
    analysis = Analysis(prediction, 1.0, (part,), hostile)
    labels = (hostile, "sad")
    pages = (
        html.verdict(analysis, hostile, labels),
        html.timeline([part], 1.0, labels),
        html.message(hostile),
        html.bars(prediction.probabilities, labels),
    )
    for page in pages:
        assert "<img" not in page and "\u202e" not in page and "&lt;img" in page
        assert page.count('"') % 2 == 0 and 'x onerror=alert(1)>"' not in page


def test_an_out_of_distribution_recording_is_called_so():
    values = {"happy": 0.6, "sad": 0.4}
    marked, usual, unknown = (
        text_of(html.verdict(Analysis(Prediction("happy", 0.6, values, ood), 1.0), "a.wav", tuple(values)))
        for ood in ("muffled", None, "unknown: fitted on 3 speakers")
    )
    assert "Out of distribution: this recording is unlike those of training (muffled)" in marked
    assert "distribution" not in usual and "Whether the recording is out of distribution is unknown" in unknown


def test_an_unsure_prediction_names_the_most_probable_emotion():
    page = html.verdict(Analysis(Prediction("unsure", 0.4, {"sad": 0.3, "happy": 0.4}), 1.0), "a.wav", ("sad", "happy"))
    assert text_of(page).startswith("unsuremost probable: happy 40 %")


# The page's answers


@pytest.mark.parametrize(
    ("name", "content", "answer"),
    [
        ("empty.wav", b"", "cannot be used (empty): 0 bytes"),
        ("broken.mp4", b"\0\0\0\x18ftypmp42" + b"\x07" * 5000, "cannot be used ("),
        ("text.wav", b"no sound " * 100, "cannot be used (not audio)"),
        ("picture.wav", image_png(np.eye(64)), "cannot be used (not audio)"),
        ("half.wav", half_a_recording(), "cannot be used (truncated)"),
        ("header.wav", half_a_recording()[:44], "cannot be used (truncated)"),
        ("gone.wav", None, "cannot be used (unreadable)"),
    ],
)
def test_a_file_that_cannot_be_used_gets_a_sentence(demo, tmp_path, name, content, answer):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    session, verdict, timeline, titles = demo.recognize(Session(), str(tmp_path / name))
    assert answer in text_of(verdict) and 'class="serx-message error"' in verdict
    assert session.analysis is None and timeline == "" and titles == []
    assert str(tmp_path) not in verdict and demo.explain(session, None) == ""


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert('1')</script>\"&.wav".replace("/", ""),
        "a\nb\tc\x1b[2J.wav",
        "x" * 240 + ".wav",
        "\u202egnp.wav",
        "\U0001f3a4 \u4e2d\u6587 $\\frac{1}.wav",
        "-rf ..%2f.wav",
    ],
)
# The event loops that other tests left to the garbage collector are not this test's warnings.
@pytest.mark.filterwarnings("error", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_recording_of_any_name_is_predicted_and_its_name_stays_a_line_of_text(demo, tmp_path, name):
    soundfile.write(tmp_path / "a.wav", speechlike(0.6, 150, 0), RATE)
    (tmp_path / "a.wav").rename(tmp_path / name)
    session, verdict, *_ = demo.recognize(Session(), str(tmp_path / name))
    assert session.analysis is not None and "0.6 s" in verdict and "<script" not in verdict
    shown = text_of(verdict)
    assert not re.search("[\x00-\x1f\u202a-\u202e]", shown) and len(shown) < 300
    assert 'id="saliency"' in demo.explain(session, None)


def test_without_a_recording_the_page_asks_for_one(demo):
    assert text_of(demo.recognize(Session(), None)[1]) == answers.NOTHING


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.wav", "link.wav"])
def test_a_file_that_was_not_uploaded_is_refused(predictor, tmp_path, path):
    (tmp_path / "secret.wav").write_bytes(b"")
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    name = path if path.startswith("/") else str(folder / path)
    demo = Demo(predictor, folder)
    assert "was not uploaded" in demo.recognize(Session(), name)[1]
    assert "was not uploaded" in demo.adapt(Session(), [name, name])[1]


def test_an_unexpected_error_shows_no_traceback_in_the_page(demo, tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("secret\nstate")

    soundfile.write(tmp_path / "a.wav", speechlike(1.0, 150, 0), RATE)
    monkeypatch.setattr(answers, "analyze", broken)
    verdict = demo.recognize(Session(), str(tmp_path / "a.wav"))[1]
    assert "unexpected went wrong (RuntimeError)" in verdict
    assert "secret" not in verdict and "Traceback" not in verdict
    assert "secret" in capsys.readouterr().err
    monkeypatch.setattr(answers, "analyze", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    assert "too little memory" in demo.recognize(Session(), str(tmp_path / "a.wav"))[1]


def test_the_saliency_of_a_part_has_the_times_of_the_recording(demo, tmp_path, talk, monkeypatch):
    shown = []
    monkeypatch.setattr(answers, "_picture", lambda explanation: shown.append(explanation) or "picture")
    path = tmp_path / "talk.wav"
    path.write_bytes(talk.read_bytes())
    session, _, timeline, titles = demo.recognize(Session(), str(path))
    assert len(titles) == 8 and timeline.count("<span title") == 8
    session, (rate, samples) = demo.choose_part(session, titles[2])
    part = session.analysis.parts[2]
    assert rate == RATE and samples is part.samples
    assert demo.explain(session, MOST_PROBABLE) == demo.explain(session, "sad") == "picture"
    assert shown[1].emotion == "sad" and shown[0].prediction.probabilities == pytest.approx(
        part.prediction.probabilities, abs=1e-3
    )
    assert shown[0].seconds[0] == pytest.approx(part.start) and abs(shown[0].seconds[-1] - part.end) < 0.05
    for wrong in (None, "", "9. x", "0. x", "-1. x", "x"):
        assert demo.choose_part(session, wrong)[1] is None


def test_a_saliency_is_a_picture(demo, tmp_path):
    soundfile.write(tmp_path / "a.wav", speechlike(0.6, 150, 0), RATE)
    session = demo.recognize(Session(), str(tmp_path / "a.wav"))[0]
    page = demo.explain(session, "happy")
    content = re.search(r"base64,([\w+/=]+)", page)[1]
    assert base64.b64decode(content).startswith(b"\x89PNG")
    assert "no such" not in page and "did you mean" in text_of(demo.explain(session, "hapy"))


@pytest.mark.parametrize("labels", [(), ("happy", "sad")])
def test_a_saliency_may_be_of_a_rating(labels, tmp_path, monkeypatch):
    demo, shown = Demo(rated_predictor(labels), tmp_path), []
    monkeypatch.setattr(answers, "_picture", lambda explanation: shown.append(explanation) or "picture")
    soundfile.write(tmp_path / "a.wav", speechlike(0.6, 150, 0), RATE)
    session, verdict, _, _ = demo.recognize(Session(), str(tmp_path / "a.wav"))
    assert "arousal" in text_of(verdict)
    assert demo.explainable == [*((MOST_PROBABLE, *labels) if labels else ()), "arousal", "valence"]
    assert demo.explain(session, demo.explainable[0]) == demo.explain(session, "valence") == "picture"
    assert [explained.dimension for explained in shown] == [None if labels else "arousal", "valence"]
    assert shown[1].value == pytest.approx(shown[1].prediction.dimensions["valence"], abs=1e-4)


@pytest.mark.usefixtures("trusted")
def test_a_voice_changes_the_predictions_until_it_is_forgotten(demo, predictor, tmp_path):
    names = []
    for i in range(4):
        names.append(str(tmp_path / f"{i}.wav"))
        soundfile.write(names[-1], speechlike(0.8, 220 + 20 * i, i), RATE)
    soundfile.write(tmp_path / "a.wav", speechlike(0.8, 230, 9), RATE)
    plain = predictor(tmp_path / "a.wav")
    with predictor.adapted_to(names):
        adapted = predictor(tmp_path / "a.wav")
    session, words = demo.adapt(Session(), names)
    assert "Adapted to 4 clips" in words
    session, verdict, *_ = demo.recognize(session, str(tmp_path / "a.wav"))
    assert session.analysis.prediction == adapted != plain and "adapted to 4 clips of the voice" in verdict
    session, _ = demo.forget_voice(session)
    session, verdict, *_ = demo.recognize(session, str(tmp_path / "a.wav"))
    assert session.analysis.prediction == plain and "adapted" not in verdict
    session, words = demo.adapt(session, names[:1])
    assert "two or more clips" in words and session.voice == ()


def test_examples_are_synthesized(demo):
    rate, clip = demo.example(voices()[1], "angry")
    assert rate == RATE and clip.dtype == np.int16
    np.testing.assert_array_equal(clip, synthetic_voice(2, "angry"))
    assert len(demo.example(CONVERSATION, "happy")[1]) > 10 * RATE


def test_at_its_end_the_demo_waits_for_an_answer_and_begins_no_other(predictor, tmp_path, talk):
    demo, path, ticks = Demo(predictor, tmp_path), tmp_path / "talk.wav", []
    path.write_bytes(talk.read_bytes())

    def stream(*arguments):
        for segment in predictor.stream(*arguments):
            ticks.append(segment)
            demo._stopping = True  # as `stop` sets it in another thread
            yield segment

    settings = predictor.config.model_copy(
        update={"data": predictor.config.data.model_copy(update={"max_seconds": 1.0})}
    )
    demo.predictor = SimpleNamespace(
        config=settings, stream=stream, pool=predictor.pool, labels=predictor.labels, recognizer=predictor.recognizer
    )
    _, verdict, *_ = demo.recognize(Session(), str(path))
    assert len(ticks) < 8 and "It took too long" in verdict
    assert "serx demo ends" in demo.recognize(Session(), str(path))[1]
    demo.stop()
    assert not demo._lock.acquire(blocking=False)


# The command


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "no password and no TLS; leave it out, or add --allow-network"),
        (["--host", "::"], "--allow-network"),
        (["--host", "192.168.1.5"], "--allow-network"),
        (["--host", "example.org"], "--allow-network"),
        (["--port", "0"], "--port 0: give a number from 1 to 65535"),
        (["--port", "70000"], "--port 70000"),
        (["--checkpoint", "absent.safetensors"], "absent.safetensors"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_served(words, message, capsys):
    with pytest.raises(SystemExit) as left:
        main("demo", words)
    assert left.value.code == (7 if "--checkpoint" in words else 2) and message in capsys.readouterr().err


def test_a_missing_or_old_gradio_is_named(monkeypatch, demo):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ConfigError, match=r"pip install 'serx\[demo\]'"):
        app.build_page(demo, "")
    monkeypatch.setitem(sys.modules, "gradio", SimpleNamespace(__version__="6.15.2"))
    with pytest.raises(ConfigError, match="lets visitors read files; install 6.16"):
        app.build_page(demo, "")


def test_a_fault_of_a_recording_is_an_audio_error(predictor, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(70 * RATE, np.int16), RATE)
    with pytest.raises(AudioError, match="silent"):
        analyze(predictor, tmp_path / "silent.wav")
