"""Windows over cached features: every gathered value against plain loops over the files."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from va.data import corpus, windows
from va.data.corpus import Clip, Corpus, Truth
from va.data.features import SCHEMA, ClipFeatures, FeatureStore, Source
from va.errors import VAError

WINDOW_S, STRIDE_S = 2.0, 1.0
STEPS, STRIDE = 4, 2
DURATIONS_S = {"exact": 2.0, "long": 5.3, "short": 0.9}
SOURCE = Source(size=1, digest="x")


class Made(NamedTuple):
    corpus: Corpus
    face: FeatureStore
    voice: FeatureStore


def identity(encoder: str, kind: str, dim: int, **sampling: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, "encoder": encoder, "kind": kind, "dim": dim, "sampling": sampling}


def count_windows(cells: int) -> int:
    return 1 + max(0, -(-(cells - STEPS) // STRIDE))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    rng = np.random.default_rng(0)
    face = FeatureStore.create(tmp_path, identity("eye", "frames", 3))
    voice = FeatureStore.create(tmp_path, identity("ear", "audio", 2, window_s=WINDOW_S, stride_s=STRIDE_S))
    entries = []
    for name, duration_s in DURATIONS_S.items():
        cells = -(-round(duration_s * 10) // 5)
        valid = rng.random(cells) < 0.7
        values = (rng.normal(size=(cells, 3)) * valid[:, None]).astype(np.float16)
        face.write(name, ClipFeatures(values=values, time_s=np.arange(cells) * 0.5 + 0.25, valid=valid), SOURCE)
        count = count_windows(cells)
        heard = rng.random((count, STEPS)) < 0.7
        sound = (rng.normal(size=(count, STEPS, 2)) * heard[..., None]).astype(np.float16)
        voice.write(name, ClipFeatures(values=sound, time_s=np.arange(count) * STRIDE_S, valid=heard), SOURCE)
        # 10 frames a second, annotated up to 0.8 s before the end of the long clip
        frames = round(duration_s * 10) - (8 if name == "long" else 0)
        labelled = rng.random(frames) < 0.8
        labelled[-1] = True
        va = np.where(labelled[:, None], rng.uniform(-1, 1, (frames, 2)), 0).astype(np.float32)
        clip = Clip(
            id=name,
            media=tmp_path / f"{name}.mp4",
            split="train",
            identity=name,
            num_frames=frames,
            duration_s=duration_s,
        )
        entries.append((clip, Truth(time_s=np.arange(frames) / 10, va=va, valid=labelled)))
    saved = corpus.save(tmp_path / "c", name="x", synthetic=True, media_root=tmp_path, entries=entries)
    return Made(saved, face, voice)


def load(made: Made, **changes: Any) -> windows.WindowSet:
    choices = {
        "face": made.face,
        "voice": made.voice,
        "window_s": WINDOW_S,
        "stride_s": STRIDE_S,
        "at_end": False,
        "device": torch.device("cpu"),
    }
    return windows.load(made.corpus, changes.pop("clips", made.corpus.clips), **(choices | changes))


def label_at(truth: Truth, time_s: float) -> tuple[list[float], bool]:
    """The label of the frame on screen; none before the first and half a second after the last."""
    shown = [i for i, seconds in enumerate(truth.time_s) if seconds <= time_s + 1e-6]
    if not shown or time_s - truth.time_s[shown[-1]] >= 0.5 or not truth.valid[shown[-1]]:
        return [0.0, 0.0], False
    return truth.va[shown[-1]].tolist(), True


@pytest.mark.parametrize("at_end", [False, True])
def test_every_value_against_loops(made: Made, at_end: bool) -> None:
    loaded = load(made, at_end=at_end)
    assert len(loaded) == sum(span.windows.stop - span.windows.start for span in loaded.spans)
    batch = loaded.batch(torch.arange(len(loaded)))
    assert [array.dtype for array in batch] == [torch.float32, torch.bool] * 3
    number = 0
    for span, clip in zip(loaded.spans, made.corpus.clips, strict=True):
        seen, heard, truth = made.face.read(clip.id), made.voice.read(clip.id), made.corpus.truth(clip)
        cells = len(seen.values)
        assert (span.clip, span.cells, span.windows.start) == (clip, cells, number)
        for index in range(count_windows(cells)):
            end_s = min(index * STRIDE_S + WINDOW_S, clip.duration_s)
            assert span.end_time_s[index] == pytest.approx(end_s)
            assert span.full[index] is (index * STRIDE + STEPS <= cells)
            for step in range(STEPS):
                cell = index * STRIDE + step
                there = cell < cells
                assert loaded.local_cells[number, step] == (cell if there else -1)
                assert batch.frames[number, step].tolist() == (seen.values[cell].tolist() if there else [0, 0, 0])
                assert bool(batch.frame_valid[number, step]) is bool(there and seen.valid[cell])
                if not at_end:
                    label, valid = label_at(truth, cell * 0.5 + 0.25) if there else ([0.0, 0.0], False)
                    assert batch.target[number, step].tolist() == label
                    assert bool(batch.target_valid[number, step]) is valid
            assert batch.audio[number].tolist() == heard.values[index].tolist()
            assert batch.audio_valid[number].tolist() == heard.valid[index].tolist()
            if at_end:
                label, valid = label_at(truth, end_s)
                assert batch.target[number].tolist() == [label]
                assert batch.target_valid[number].tolist() == [valid]
            number += 1
    assert number == len(loaded)
    assert batch.target_valid.any() and not batch.target_valid.all()


def test_by_hand(made: Made) -> None:
    loaded = load(made)
    # exact: 4 cells, 1 window; long: 11 cells, 5 windows; short: 2 cells, 1 window
    assert [span.clip.id for span in loaded.spans] == ["exact", "long", "short"]
    assert loaded.cells.tolist() == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [6, 7, 8, 9],
        [8, 9, 10, 11],
        [10, 11, 12, 13],
        [12, 13, 14, -1],
        [15, 16, -1, -1],
        [-1, -1, -1, -1],  # the window of padding
    ]
    assert len(loaded.frames) == 18
    assert loaded.frames.dtype == torch.float16
    assert loaded.spans[1].end_time_s == pytest.approx((2.0, 3.0, 4.0, 5.0, 5.3))
    assert loaded.spans[1].full == (True, True, True, True, False)


def test_padding_is_masked_and_zero(made: Made) -> None:
    loaded = load(made)
    batch = loaded.batch(torch.arange(len(loaded)))
    padding = loaded.cells[:-1] == -1
    assert padding.sum() == 3
    assert not batch.frame_valid[padding].any() and not batch.target_valid[padding].any()
    assert not batch.frames[padding].any() and not batch.target[padding].any()


def test_a_window_of_padding_has_nothing(made: Made) -> None:
    for at_end in (False, True):
        loaded = load(made, at_end=at_end)
        batch = loaded.batch(torch.tensor([[0, -1]]))
        assert not any(part[0, 1].any() for part in batch)
        assert batch.frame_valid[0, 0].any()
        assert loaded.num_labels().tolist() == [
            *loaded.batch(torch.arange(len(loaded))).target_valid.sum(1).tolist(),
            0,
        ]


def test_labels_end_with_the_annotation(made: Made) -> None:
    loaded = load(made, clips=made.corpus.clips[1:2])
    # Annotated up to 4.4 s: cell 9 (4.75 s) is within half a second of it, cell 10 (5.25 s) is not.
    assert made.corpus.truth(made.corpus.clips[1]).valid[44]
    assert loaded.target_valid[9:].tolist() == [True, False, False]  # cells 9 and 10, and the masked row


def test_a_batch_is_those_windows_in_that_order(made: Made) -> None:
    loaded = load(made)
    every = loaded.batch(torch.arange(len(loaded)))
    index = torch.tensor([5, 0, 5])
    for found, expected in zip(loaded.batch(index), every, strict=True):
        assert torch.equal(found, expected[index])
    assert len(loaded.batch(torch.zeros(0, dtype=torch.int64)).frames) == 0


def test_a_clip_does_not_depend_on_the_others(made: Made) -> None:
    together = load(made)
    for span in together.spans:
        alone = load(made, clips=[span.clip])
        index = torch.arange(span.windows.start, span.windows.stop)
        for found, expected in zip(alone.batch(torch.arange(len(alone))), together.batch(index), strict=True):
            assert torch.equal(found, expected)


def test_no_clips_are_refused(made: Made) -> None:
    with pytest.raises(VAError, match="the split has no clips"):
        load(made, clips=[])


def test_another_window_than_the_audios_is_refused(made: Made) -> None:
    with pytest.raises(VAError, match=r"has windows of 2 s every 1 s, not 2 s every 0.5 s"):
        load(made, stride_s=0.5)
    with pytest.raises(VAError, match="not 4 s every 1 s"):
        load(made, window_s=4.0)


def test_missing_features_are_named(made: Made) -> None:
    made.voice.path("long").unlink()
    with pytest.raises(VAError, match="has no features of clip 'long'"):
        load(made)


@pytest.mark.parametrize("store", ["face", "voice"])
def test_features_of_another_length_are_refused(made: Made, store: str) -> None:
    opened: FeatureStore = getattr(made, store)
    kept = opened.read("long")
    cut = ClipFeatures(values=kept.values[:-1], time_s=kept.time_s[:-1], valid=kept.valid[:-1])
    opened.write("long", cut, SOURCE)
    with pytest.raises(VAError, match=r"features of 'long' do not cover its 5.30 s"):
        load(made)
