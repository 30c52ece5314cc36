"""The notebook of the documentation runs from its first cell to its last."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tour.ipynb"
SHORT = "speakers, clips_per_emotion, epochs = 6, 1, 2\nfolder = 'notebook'\n"


def cells(kind: str) -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


@pytest.mark.slow
def test_the_cells_of_the_notebook_run_in_their_order(tmp_path, monkeypatch, capsys):
    shown = []
    display = SimpleNamespace(
        Audio=lambda samples, rate: ("sound", len(samples), rate),
        Image=lambda png: ("picture", png),
        display=shown.append,
    )
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=display, version_info=(9, 0)))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in cells("code"):
        is_short = "parameters" in cell["metadata"].get("tags", [])
        exec(compile(SHORT if is_short else "".join(cell["source"]), cell["id"], "exec"), names)
    kinds = [kind for kind, *_ in shown]
    assert kinds == ["sound", "picture", "picture", "picture"]
    assert all(content[1].startswith(b"\x89PNG") for content in shown[1:])
    printed = capsys.readouterr().out
    assert "UAR on new speakers" in printed and "predictions changed" in printed and "adapted" in printed


def test_the_notebook_holds_no_output_and_names_its_parameters():
    code = cells("code")
    assert [cell["outputs"] for cell in code] == [[]] * len(code)
    assert [cell["metadata"].get("tags") for cell in code].count(["parameters"]) == 1
    assert SHORT.partition(" =")[0] in "".join(code[0]["source"])
