"""What the charts are drawn from: packed series against a decoder of their own, gaps, stretches, labels."""

import base64
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from page_material import NAN, make_clip, make_figures

from va.data.regions import REGION_TEXTS
from va.evaluate.figures import ClipTrack
from va.evaluate.pages import report_charts
from va.evaluate.pages.report_charts import GAP, TIME_UNIT_S


def unpacked(packed: str, times: list[int], values: list[int]) -> list[list[int | None]]:
    """Decode as the page does, one number at a time."""
    plain = zlib.decompress(base64.b64decode(packed))
    at, found = 0, []
    for length, width in [(length, 4) for length in times] + [(length, 2) for length in values]:
        series: list[int | None] = []
        total = 0
        for _ in range(length):
            step = int.from_bytes(plain[at : at + width], "little", signed=True)
            total = (total + step + 2 ** (8 * width - 1)) % 2 ** (8 * width) - 2 ** (8 * width - 1)
            series.append(None if width == 2 and total == GAP else total)
            at += width
        found.append(series)
    assert at == len(plain)
    return found


def drawn(clip: ClipTrack) -> dict[str, object]:
    figures = make_figures()
    figures["clips"] = [clip]
    (found,) = report_charts.chart_data(figures, [0])["clips"]  # type: ignore[misc]
    assert isinstance(found, dict)
    return found


def series_of(clip: ClipTrack) -> tuple[float, list[list[int | None]]]:
    found = drawn(clip)
    frames, cells = len(clip["time_s"]), len(clip["cell_time_s"])
    kinds = 4 if clip["smoothed"] is None else 6
    regions = 0 if clip["regions"] is None else clip["regions"].shape[1]
    lengths = [frames] * kinds + [cells] * (regions + 1)
    assert found["frames"] == frames and found["cells"] == cells
    return float(found["unit"]), unpacked(str(found["packed"]), [frames, cells], lengths)  # type: ignore[arg-type]


def scaled(series: list[int | None], unit: float) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value * unit for value in series])


@pytest.mark.parametrize("smoothed", [True, False])
def test_packed_series_are_those_of_the_clip(smoothed: bool) -> None:
    clip = make_clip("clip", frames=500, seed=3, fps=29.97, smoothed=smoothed)
    clip["prediction"][7] = NAN
    clip["gate"][2] = NAN
    unit, (time, cell_time, *values) = series_of(clip)
    assert unit == 1e-4
    np.testing.assert_allclose(scaled(time, TIME_UNIT_S), clip["time_s"], atol=0.51e-4)
    np.testing.assert_allclose(scaled(cell_time, TIME_UNIT_S), clip["cell_time_s"], atol=0.51e-4)
    target = np.where(clip["valid"][:, None], clip["target"], np.nan)
    expected = [*target.T, *clip["prediction"].T]
    if clip["smoothed"] is not None:
        expected += [*clip["smoothed"].T]
    expected += [*clip["regions"].T, clip["gate"]]
    assert len(values) == len(expected)
    for found, wanted in zip(values, expected, strict=True):
        np.testing.assert_allclose(scaled(found, unit), wanted, atol=0.51e-4, equal_nan=True)
    assert values[0].count(None) == int((~clip["valid"]).sum()) > 0


def test_values_far_outside_get_a_coarser_unit() -> None:
    clip = make_clip("clip", frames=60, seed=1, smoothed=False)
    clip["prediction"][:3, 0] = (-400.0, 400.0, -400.0)
    unit, (_, _, *values) = series_of(clip)
    assert unit == pytest.approx(400 / 32767)
    np.testing.assert_allclose(scaled(values[2], unit), clip["prediction"][:, 0], atol=0.51 * unit)


def test_a_clip_without_frames_or_predictions_is_packed() -> None:
    clip = make_clip("clip", frames=40, seed=1, smoothed=False)
    clip["prediction"][:] = NAN
    clip["regions"][:] = NAN
    _, series = series_of(clip)
    assert series[4] == series[5] == [None] * 40
    for name in ("time_s", "target", "valid", "prediction"):
        clip[name] = clip[name][:0]  # type: ignore[literal-required]
    _, (time, *_) = series_of(clip)
    assert time == []


def test_stretches_without_a_label_last_until_the_next_label() -> None:
    marked = np.array([True, True, False, False, True, False, False, True])
    time_s = np.arange(8) / 4
    assert report_charts.stretches(marked, time_s, 2.0) == [(0.0, 0.5), (1.0, 1.25), (1.75, 2.0)]
    assert report_charts.stretches(np.zeros(8, dtype=bool), time_s, 2.0) == []
    assert report_charts.stretches(np.ones(8, dtype=bool), time_s, 1.0) == [(0.0, 1.75)]  # never before its last frame
    assert report_charts.stretches(np.zeros(0, dtype=bool), np.zeros(0), 2.0) == []


def test_a_clip_says_where_something_is_missing() -> None:
    clip = make_clip("clip", frames=300, seed=3)
    clip["no_face"], clip["no_sound"] = [(1.0, 2.50049)], [(0.0, 10.0)]
    found = drawn(clip)
    assert found["no_label"] == [(2.0, 2.6)]  # frames 60 to 77 of 30 a second
    assert found["no_face"] == [(1.0, 2.5)] and found["no_sound"] == [(0.0, 10.0)]


def test_regions_have_labels_and_boundaries_halfway() -> None:
    figures = make_figures()
    figures["plane"]["region_texts"] = REGION_TEXTS
    plane = report_charts.chart_data(figures, [])["plane"]
    assert isinstance(plane, dict)
    assert plane["labels"] == ["sad", "displeased", "angry", "calm", "neutral", "alert", "relaxed", "happy", "excited"]
    np.testing.assert_allclose(plane["valence_splits"], [-0.33, 0.33])
    np.testing.assert_allclose(plane["arousal_splits"], [-0.33, 0.33])
    np.testing.assert_allclose(plane["label_at"][:3], [[-0.66, -0.33], [-0.66, 0.33], [-0.66, 1.0]])


def test_both_densities_share_a_scale_and_empty_places_have_none() -> None:
    figures = make_figures()
    density = figures["plane"]["density_target"]
    density[:] = 0
    density[3, 4] = 0.75
    plane = report_charts.chart_data(figures, [])["plane"]
    assert isinstance(plane, dict)
    assert plane["top"] == 0.75
    drawn_target = plane["densities"][0]
    assert drawn_target[3, 4] == 0.75 and np.isnan(drawn_target).sum() == density.size - 1


def test_a_clip_without_regions_packs_none() -> None:
    clip = make_clip("clip", frames=60, seed=1)
    clip["regions"] = None
    unit, series = series_of(clip)
    assert len(series) == 2 + 6 + 1
    np.testing.assert_allclose(scaled(series[-1], unit), clip["gate"], atol=unit)


def test_all_clips_share_the_scale_of_region_probabilities() -> None:
    figures = make_figures(clips=2)
    figures["clips"][0]["regions"][:] = NAN
    figures["clips"][1]["regions"][:] = 0.31
    assert report_charts.chart_data(figures, [0, 1])["region_top"] == 0.4
    assert report_charts.chart_data(make_figures(clips=0), [])["region_top"] == 1.0
