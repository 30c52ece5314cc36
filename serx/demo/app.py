"""The page of the demo (gradio), and how it is served: to this computer alone, with limits on size, time and number.

Gradio would read two dozen environment variables that can publish the page or its files; `serve` removes them. Uploads
lie in a folder of this process, which is removed at the end.
"""

import ipaddress
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serx.data.synthetic.speaking_styles import EMOTIONS
from serx.demo import html
from serx.demo.analysis import MAX_RECORDING_SECONDS, spoken
from serx.demo.answers import CONVERSATION, NOTHING, Demo, Session, voices
from serx.errors import ConfigError
from serx.inference.predictor import Predictor

if TYPE_CHECKING:
    import gradio

MIN_GRADIO = (6, 16)  # earlier versions let visitors read files of the server
MAX_UPLOAD_MB = 50
QUEUE = 8  # visitors who may wait
SESSIONS = 16  # whose recordings are kept
KEEP_SECONDS = 3600  # of uploads
TOO_LARGE = f"This file is too large; give at most {MAX_UPLOAD_MB} MB."
# Says so before a file is uploaded; gradio, which refuses it as well, would only say "Error".
REFUSE_LARGE_FILES = f"""() => {{
  const refuse = (event) => {{
    const files = [...(event.type === "drop" ? event.dataTransfer.files : event.target.files || [])];
    const large = files.some((file) => file.size > {MAX_UPLOAD_MB}e6);
    document.getElementById("refused").hidden = !large;
    if (large) {{
      event.preventDefault();
      event.stopImmediatePropagation();
      if (event.type === "change") event.target.value = "";
    }}
  }};
  for (const type of ["change", "drop"]) document.addEventListener(type, refuse, true);
}}"""


def build_page(demo: Demo, summary: str) -> "gradio.Blocks":
    """The page of `demo`; `summary` says what the model knows.

    Raises:
        ConfigError: gradio is missing or too old.
    """
    gr = _gradio()
    with gr.Blocks(
        title="serx", analytics_enabled=False, delete_cache=(KEEP_SECONDS, KEEP_SECONDS), fill_width=False
    ) as page:
        session = gr.State(Session(), time_to_live=KEEP_SECONDS)
        refused = f'<div id="refused" class="serx-message error" role="alert" hidden>{TOO_LARGE}</div>'
        gr.HTML(f"<h1>Speech emotion recognition</h1>{html.message(f'Model: {summary}')}{refused}")
        with gr.Row():
            with gr.Column(min_width=320):
                recording = gr.Audio(
                    sources=["microphone", "upload"], type="filepath", label="Your recording", editable=False,
                    elem_id="recording", buttons=[],
                )  # fmt: skip
                other = gr.File(
                    label="Another format, or a video", type="filepath", height=150, elem_id="other", buttons=[]
                )
                with gr.Group():
                    voice = gr.Dropdown([*voices(), CONVERSATION], label="Or an example", elem_id="voice")
                    style = gr.Dropdown(list(EMOTIONS), label="Speaking style", elem_id="style")
                    example = gr.Button("Make the example", elem_id="example")
                with gr.Accordion("Adapt to a voice", open=False, elem_id="adaptation"):
                    gr.HTML(
                        "Upload clips of one person, better ten or more, in different emotions. Labels are not needed."
                    )
                    clips = gr.File(
                        label="Clips of the voice", file_count="multiple", type="filepath", height=140,
                        elem_id="clips", buttons=[],
                    )  # fmt: skip
                    with gr.Row():
                        adapt = gr.Button("Adapt", variant="primary", elem_id="adapt", min_width=100)
                        forget = gr.Button("Forget the voice", elem_id="forget", min_width=100)
                    adaptation = gr.HTML(elem_id="adapted")
            with gr.Column(min_width=320, scale=2):
                verdict = gr.HTML(html.message(NOTHING), elem_id="result")
                with gr.Column(visible=False) as parts_group:
                    timeline = gr.HTML(elem_id="parts-timeline")
                    parts = gr.Radio([], label="Parts: choose one to play it", elem_id="parts")
                    player = gr.Audio(label="Part", interactive=False, elem_id="part", buttons=[])
                chosen_name = gr.Dropdown(demo.explainable, label="Saliency for", elem_id="emotion", visible=False)
                picture = gr.HTML(elem_id="picture")
        gr.HTML(
            f"Up to {MAX_UPLOAD_MB} MB and {spoken(MAX_RECORDING_SECONDS)}. Recordings stay on the computer that runs "
            "serx demo, and are deleted when it ends. A saliency in red raises the probability of the emotion, or the "
            "rating, in blue it lowers it. Predictions are often wrong: do not judge people by them."
        )

        def recognized(current: Session, file: str | None) -> list[Any]:
            current, words, line, titles = demo.recognize(current, file)
            chosen = None if current.part is None else titles[current.part]
            current, samples = demo.choose_part(current, chosen)
            return [
                current, words, line, gr.Radio(choices=titles, value=chosen), gr.Column(visible=bool(titles)),
                gr.Audio(value=samples, autoplay=False),
                gr.Dropdown(value=demo.explainable[0], visible=current.analysis is not None),
                demo.explain(current, None),
            ]  # fmt: skip

        def again(current: Session) -> list[Any]:
            if current.path is None:
                return [current, *[gr.skip()] * 7]
            return recognized(current, str(current.path))

        def part_chosen(current: Session, title: str | None, name: str) -> list[Any]:
            current, samples = demo.choose_part(current, title)
            return [current, gr.Audio(value=samples, autoplay=True), demo.explain(current, name)]

        answers = [session, verdict, timeline, parts, parts_group, player, chosen_name, picture]
        alone: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
        for listen in (recording.stop_recording, recording.upload):
            listen(recognized, [session, recording], answers, **alone).then(lambda: None, None, other, **alone)
        other.upload(recognized, [session, other], answers, **alone).then(lambda: None, None, recording, **alone)
        made = example.click(lambda *named: (demo.example(*named), None), [voice, style], [recording, other], **alone)
        made.then(recognized, [session, recording], answers, **alone)
        parts.input(part_chosen, [session, parts, chosen_name], [session, player, picture], **alone)
        chosen_name.input(demo.explain, [session, chosen_name], picture, **alone)
        for button, change, inputs in ((adapt, demo.adapt, [session, clips]), (forget, demo.forget_voice, [session])):
            changed = button.click(change, inputs, [session, adaptation], **alone)
            changed.then(again, [session], answers, **alone)
    page.queue(max_size=QUEUE, default_concurrency_limit=1, api_open=False)
    return page


@contextmanager
def serve(predictor: Predictor, summary: str, host: str, port: int | None) -> Iterator[str]:
    """Serves the page within the block, and yields its address.

    Args:
        predictor: of the model.
        summary: what the model knows, for the head of the page.
        host: an address of this computer.
        port: to listen on; None: the first free one from 7860.

    Raises:
        ConfigError: gradio is missing, or the address cannot be used.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="serx-demo-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        demo = Demo(predictor, Path(folder))
        page = build_page(demo, summary)
        try:
            _, address, _ = page.launch(**launch_settings(host, port))
        except OSError as error:
            raise ConfigError(f"--host {host}, --port {port}: {error}") from error
        try:
            yield address
        finally:
            demo.stop()
            page.close(verbose=False)
            del os.environ["GRADIO_TEMP_DIR"]


def launch_settings(host: str, port: int | None) -> dict[str, Any]:
    """How gradio serves the page: nothing leaves this computer, no files but uploads, no other ways in."""
    gr = _gradio()
    fonts = ["system-ui", "sans-serif"]  # nothing is fetched from the internet
    return {
        "server_name": host,
        "server_port": port,
        "share": False,
        "inbrowser": False,
        "prevent_thread_lock": True,
        "quiet": True,
        "show_error": False,
        "max_file_size": MAX_UPLOAD_MB * 10**6,
        "max_threads": 4,
        "allowed_paths": [],
        "root_path": "",
        "state_session_capacity": SESSIONS,
        "enable_monitoring": False,
        "run_history": False,
        "mcp_server": False,
        "ssr_mode": False,
        "pwa": False,
        "strict_cors": True,
        "footer_links": [],
        "theme": gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
        "css": html.CSS,
        "js": REFUSE_LARGE_FILES,
    }


def is_local(host: str) -> bool:
    """Whether only this computer can reach `host`.

    >>> is_local("127.0.0.1"), is_local("localhost"), is_local("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _gradio() -> Any:
    try:
        import gradio  # noqa: PLC0415 (an optional package, which takes seconds)
    except ImportError as error:
        raise ConfigError("gradio, which serves the demo, is missing: pip install 'serx[demo]'") from error
    version = tuple(int(part) for part in gradio.__version__.split(".")[:2])
    if version < MIN_GRADIO:
        least = ".".join(map(str, MIN_GRADIO))
        raise ConfigError(
            f"gradio {gradio.__version__} lets visitors read files; install {least} or later: pip install 'serx[demo]'"
        )
    return gradio
