"""Settings of stage one: ranges, presets, and which of them change results."""

import math
from pathlib import Path
from typing import Any

import pytest

from va.errors import VAError
from va.extract.config import ExtractConfig
from va.settings import as_dict


def config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"), **changes)


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"window_s": 0.75}, "--window-s"),
        ({"window_s": 0.0}, "--window-s"),
        ({"window_s": -1.0}, "--window-s"),
        ({"window_s": math.nan}, "--window-s"),
        ({"window_s": math.inf}, "--window-s"),
        ({"stride_s": 0.3}, "--stride-s"),
        ({"stride_s": 0.0}, "--stride-s"),
        ({"window_s": 2.0, "stride_s": 2.5}, "--stride-s"),
        ({"frame_batch": 0}, "--frame-batch"),
        ({"audio_batch": 0}, "--audio-batch"),
    ],
)
def test_ranges(change: dict[str, Any], option: str) -> None:
    with pytest.raises(VAError, match=f"^{option}: .* is out of range"):
        config(**change)


def test_the_limits_themselves_are_allowed() -> None:
    made = config(window_s=0.5, stride_s=0.5, frame_batch=1, audio_batch=1)
    assert made.window_s == made.stride_s == 0.5


def test_whole_seconds_may_be_integers_in_python() -> None:
    assert config(window_s=4, stride_s=2).window_s == 4


def test_the_papers_defaults() -> None:
    made = config()
    assert (made.window_s, made.stride_s) == (10.0, 3.0)  # F3
    assert made.chosen == ("clip-vit-b-16", "ast", "pixels", "loudness")  # F1, F2


def test_named_encoders_replace_the_presets() -> None:
    assert config(preset="tiny").chosen == ("tiny-clip", "tiny-ast", "pixels", "loudness")
    assert config(preset="tiny", encoders=("pixels",)).chosen == ("pixels",)


def test_only_what_changes_results_is_in_the_digest() -> None:
    assert set(as_dict(config(), digest_only=True)) == {
        "preset",
        "encoders",
        "faces",
        "face_margin",
        "window_s",
        "stride_s",
        "precision",
        "compile",
    }
