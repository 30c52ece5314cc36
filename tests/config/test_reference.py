"""The reference of configuration keys is complete and current."""

from pathlib import Path

from serx.config.reference import reference, undescribed

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_every_key_has_a_meaning():
    assert undescribed() == []


def test_the_page_is_what_the_command_prints():
    assert PAGE.read_text() == reference(), "run python -m serx.config.reference > docs/configuration.md"


def test_keys_are_listed_with_their_values_default_and_unit():
    text = reference()
    assert (
        "| `snr_db` | 2 values: number, -100 to 100 | `[10.0, 40.0]` | dB | range of the ratio in dB, uniform" in text
    )
    assert "| `schedule` | `constant`, `cosine`, `onecycle`, `plateau` | `onecycle` |  |" in text
    assert "### model.kind: cnn2d" in text and "#### time_mask" in text
    assert "| key | `model.members` | `model.ensemble_size` |" in text
