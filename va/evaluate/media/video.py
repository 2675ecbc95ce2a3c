"""New videos -> what is said about them, frame by frame in a table and on a page: `va predict RUN VIDEO... --out DIR`.

Nothing but the videos is needed: no annotation, no face boxes, no corpus. `--zero-shot` needs no run either.
"""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from va import files
from va.data import timeline
from va.data.regions import REGION_TEXTS
from va.errors import VAError
from va.evaluate import protocol, smoothing
from va.evaluate.assemble import ClipSeries
from va.evaluate.media import predictors, remarks, video_features
from va.evaluate.media.cells import Answer, Floats, on_cells
from va.evaluate.media.predictors import AnyPredictor
from va.evaluate.media.video_features import Limits, Video
from va.evaluate.pages import player
from va.evaluate.player_data import PlayerData
from va.evaluate.predict_config import PredictConfig
from va.train import checkpoint

Progress = Callable[[int, int, str], None]

_ROWS_AT_ONCE: Final = 20_000
_AXES: Final = ("valence", "arousal")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What `va predict` did.

    Args:
        figures: What `predict.json` holds and `--json` prints.
        notes: What a person must know about the model, then about videos, with their names in front.
        rows: Header and rows for the terminal.
        pages: In the order of the videos.
        failed: Why a video could not be predicted, in the order of the videos.
    """

    figures: dict[str, Any]
    notes: list[str]
    rows: tuple[tuple[str, ...], list[tuple[str, ...]]]
    pages: list[Path]
    failed: list[VAError]


def run(config: PredictConfig, *, progress: Progress) -> Summary:
    """Predict videos and write `<name>.csv`, `<name>.html` and `predict.json`.

    Args:
        config: The command's settings.
        progress: Called with videos done, videos in all, and a line for a person.

    Raises:
        VAError: The run or an encoder cannot be loaded, or the disk cannot be written. A video that cannot be read is
            in `Summary.failed` instead.
    """
    try:  # now, and not after an hour of decoding
        config.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.cannot_write(config.folder, error) from error
    predictor = predictor_for(config)
    videos = video_features.named(config.videos)
    limits = Limits(readers=config.readers, stall_s=config.stall_s, memory_gb=config.memory_gb)
    shown: list[dict[str, Any]] = []
    with video_features.extracted(videos, predictor, limits=limits, keep=config.keep_features, progress=progress) as (
        found,
        reasons,
    ):
        for number, video in enumerate(found.values()):
            title = f"page of {video.path.name}"
            progress(number, len(found), title)

            def writing(done: int, total: int, what: str, *, title: str = title, number: int = number) -> None:
                progress(number, len(found), f"{title}, {what} {done} of {total} s")

            try:
                shown.append(_write(video, predictor, config, writing))
            except VAError as error:
                if isinstance(error.__cause__, OSError):  # the disk, not the video
                    raise
                reasons[video.name] = error
        progress(len(found), len(found), "")
    failed = {str(video.path): reasons[video.name] for video in videos if video.name in reasons}
    why = [{"video": video, "error": error.message} for video, error in failed.items()]
    about = remarks.of_model(source=predictor.source, is_demo=predictor.is_demo, has_regions=predictor.has_regions)
    model = {"source": predictor.source, "name": predictor.name, "demo_encoders": predictor.is_demo, "notes": about}
    regions = [
        {"valence": float(valence), "arousal": float(arousal), "text": text}
        for (valence, arousal), text in zip(predictor.centers, predictor.texts, strict=True)
        if predictor.has_regions
    ]
    figures = {"model": model, "regions": regions, "videos": shown, "failed": why}
    files.write_json(config.folder / "predict.json", figures)
    return Summary(
        figures=figures,
        notes=about + _gathered(shown),
        rows=_table(shown, seen="face" if predictor.config.faces == "detect" else "picture"),
        pages=[Path(each["page"]) for each in shown],
        failed=list(failed.values()),
    )


def predictor_for(config: PredictConfig) -> AnyPredictor:
    """Load what predicts.

    Raises:
        VAError: The run or an encoder cannot be loaded.
    """
    if config.run is None:
        return predictors.for_texts(
            encoder=config.encoder,
            texts=config.texts,
            centers=config.centers,
            scale=config.scale,
            faces=config.faces,
            face_weights=config.face_weights,
            clip_weights=config.clip_weights,
            device=config.device,
        )
    return predictors.for_run(
        checkpoint.load_run(config.run),
        faces=config.faces,
        face_weights=config.face_weights,
        clip_weights=config.clip_weights,
        ast_weights=config.ast_weights,
        device=config.device,
    )


def _write(video: Video, predictor: AnyPredictor, config: PredictConfig, progress: Progress) -> dict[str, Any]:
    """Predict one video, write its files, and sum it up."""
    answer = predictor.answer(video.features())
    smoothed = None
    if config.smooth != "none":
        axes = ClipSeries(
            id=video.name,
            time_s=answer.series.time_s,
            values=answer.series.values[:, :2],
            covered=answer.series.covered,
        )
        smoothed = on_cells(smoothing.smooth(axes, kernel=config.smooth, width_s=config.smooth_s), len(answer.time_s))
    notes = [*answer.notes, *remarks.of_medium(video.seen)]
    name = video_features.file_name(video.name)
    table, page = config.folder / f"{name}.csv", config.folder / f"{name}.html"
    write_csv(table, answer, smoothed=smoothed, frame_time_s=video.seen.frame_time_s, source=predictor.source)
    data = PlayerData(
        title=video.path.name,
        video=None if config.video == "none" else video.path,
        duration_s=answer.duration_s,
        width=video.seen.width,
        height=video.seen.height,
        cell_time_s=answer.time_s,
        va=np.stack([answer.valence, answer.arousal], axis=1),
        smoothed=smoothed,
        windows_s=predictor.windows_s,
        regions=answer.regions,
        gate=answer.gate,
        boxes=answer.boxes,
        has_face=answer.has_face,
        has_sound=answer.has_sound,
        centers=predictor.centers,
        region_texts=predictor.texts,
        source=predictor.source,
        model=predictor.name,
        is_demo=predictor.is_demo,
        notes=notes,
        provenance=[("file", video.path.name), *predictor.provenance, *_settings(config, predictor)],
    )
    player.write_player(data, page, video=config.video, progress=progress)
    return {
        "video": str(video.path),
        "name": video.path.name,
        "csv": str(table),
        "page": str(page),
        "frames": len(video.seen.frame_time_s),
        "duration_s": answer.duration_s,
        "cells": len(answer.time_s),
        "cells_with_face": int(answer.has_face.sum()),
        "cells_with_sound": int(answer.has_sound.sum()),
        **{axis: _spread(getattr(answer, axis)) for axis in _AXES},
        "notes": notes,
    }


def write_csv(path: Path, answer: Answer, *, smoothed: Floats | None, frame_time_s: Floats, source: str) -> None:
    """Write one row per video frame (`docs/predict.md`); what is not there is empty.

    Args:
        path: The table.
        answer: Of the video.
        smoothed: float64 [C, 2], or None.
        frame_time_s: float64 [F], presentation times in seconds.
        source: `run`, or `zero-shot`, whose columns of valence and arousal are named so.
    """
    prefix = "" if source == "run" else "zero_shot_"
    header = ["frame", "time_s", *(prefix + axis for axis in _AXES)]
    header += [] if answer.regions is None else [f"region_{number}" for number in range(answer.regions.shape[1])]
    header += ["gate"] * (answer.gate is not None)
    header += [f"{prefix}{axis}_smoothed" for axis in _AXES] * (smoothed is not None)
    header += ["face", "sound"]
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerow(header)
        for first in range(0, len(frame_time_s), _ROWS_AT_ONCE):
            stream.write(_rows(answer, smoothed, frame_time_s[first : first + _ROWS_AT_ONCE], first))


def _rows(answer: Answer, smoothed: Floats | None, times: Floats, first: int) -> str:
    series = answer.series
    columns, _ = protocol.cells_to_frames(series.values, series.covered, series.time_s, times)
    if smoothed is not None:
        there = np.isfinite(smoothed[:, 0])
        more, _ = protocol.cells_to_frames(smoothed, there, answer.time_s, times)
        columns = np.concatenate([columns, more], axis=1)
    # A frame belongs to its half second; where nothing is said about that, nothing is said about the frame.
    cells = (times / timeline.CELL_S + 1e-6).astype(np.int64).clip(0, len(answer.time_s) - 1)
    said = np.isfinite(answer.valence)[cells]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    flags = np.stack([answer.has_face, answer.has_sound], axis=1)[cells].astype(int).tolist()
    for row, (time_s, values) in enumerate(zip(times.tolist(), columns.tolist(), strict=True)):
        shown = [f"{value:.5f}" for value in values] if said[row] else [""] * len(values)
        writer.writerow([first + row + 1, f"{time_s:.4f}", *shown, *flags[row]])
    return text.getvalue()


def _settings(config: PredictConfig, predictor: AnyPredictor) -> list[tuple[str, str]]:
    faces = {"none": "whole frames", "detect": "detected faces", "crops": "crops"}[predictor.config.faces]
    found = [("pictures", faces)]
    if predictor.source == "zero-shot" and tuple(predictor.texts) != REGION_TEXTS:
        found.append(("texts", str(config.texts)))
    if config.smooth != "none":
        found.append(("smoothing", f"{config.smooth}, {config.smooth_s:g} s"))
    return found


def _spread(values: Floats) -> dict[str, float] | None:
    """Mean, least and most of what is there."""
    there = values[np.isfinite(values)]
    if not len(there):
        return None
    return {"mean": float(there.mean()), "min": float(there.min()), "max": float(there.max())}


def _gathered(shown: list[dict[str, Any]]) -> list[str]:
    """Say each note once, with the videos that it is about."""
    about: dict[str, list[str]] = {}
    for each in shown:
        for note in each["notes"]:
            about.setdefault(note, []).append(_told_apart(each, shown))
    return [
        f"{', '.join(names) if len(names) < 4 else f'{len(names)} of {len(shown)} videos'}: {note}"
        for note, names in about.items()
    ]


def _told_apart(each: dict[str, Any], shown: list[dict[str, Any]]) -> str:
    """A video's name, or its whole path where another one has that name too."""
    alike = sum(other["name"] == each["name"] for other in shown)
    return str(each["name"] if alike == 1 else each["video"])


def _table(shown: list[dict[str, Any]], *, seen: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    def mean(spread: dict[str, float] | None) -> str:
        return "-" if spread is None else f"{spread['mean']:+.2f}"

    rows: list[tuple[str, ...]] = [
        (
            _told_apart(each, shown),
            f"{each['duration_s']:.1f} s",
            mean(each["valence"]),
            mean(each["arousal"]),
            f"{each['cells_with_face'] / each['cells']:.0%}",
            f"{each['cells_with_sound'] / each['cells']:.0%}",
        )
        for each in shown
    ]
    return ("video", "length", "mean valence", "mean arousal", seen, "sound"), rows
