"""Model inputs on the disk are those that stage one feeds its encoders, whatever happens while they are made."""

import dataclasses
import errno
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import make_video, sine

from va import files
from va.data import clipgroup, timeline
from va.data import corpus as corpora
from va.data.clipgroup import Source
from va.data.corpus import Clip, Corpus, Truth
from va.data.features import open_stores
from va.errors import VAError
from va.extract import encoders, pipeline
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder
from va.extract.process import Begun, Ended, Event, Inputs
from va.extract.readers import Readers
from va.extract.reading import Front
from va.train.finetuning import inputs, preparing
from va.train.finetuning.inputs import At, InputStore

SECONDS = {"long": 23.2, "late": 4.4, "mute": 4.0}
LATE_S = 1.0
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Three videos: one of several windows, one whose pictures begin late, one without sound."""
    root = tmp_path_factory.mktemp("corpus")
    entries = []
    for number, (name, seconds) in enumerate(SECONDS.items()):
        base = np.random.default_rng(number).integers(0, 256, (48, 80, 3), np.uint8)
        offset_s = LATE_S if name == "late" else 0.0
        make_video(
            root / f"{name}.mp4",
            rate=5,
            seconds=seconds - offset_s,
            audio=None
            if name == "mute"
            else sine(hz=300, seconds=seconds) * np.linspace(0, 1, round(seconds * 44_100)),
            draw=lambda index, base=base: np.roll(base, 3 * index, axis=1),  # type: ignore[misc]
            video_offset_s=offset_s,
        )
        clip = Clip(id=name, media=root / f"{name}.mp4", split="train", identity=name, num_frames=1, duration_s=seconds)
        truth = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.ones(1, np.bool_))
        entries.append((clip, truth))
    return corpora.save(root, name="x", synthetic=True, media_root=root, entries=entries)


class Made(NamedTuple):
    """Encoders and what they were built with."""

    face: Encoder
    voice: Encoder
    config: ExtractConfig

    def prepare(self, clips: Any, directory: Path, **changes: Any) -> InputStore:
        choices = {"progress": lambda *_: None, **changes}
        return inputs.prepare(
            clips, face=self.face, voice=self.voice, config=self.config, directory=directory, **choices
        )


def build(corpus: Corpus, *names: str, **changes: Any) -> Made:
    config = ExtractConfig(corpus=corpus.path, out=Path("nowhere"), encoders=names, device="cpu", readers=1, **changes)
    face, voice = (encoders.build(name, config=config, device=CPU) for name in names)
    return Made(face, voice, config)


@pytest.fixture(scope="module")
def tiny(corpus: Corpus) -> Made:
    return build(corpus, "tiny-clip", "tiny-ast")


@pytest.fixture(scope="module")
def prepared(corpus: Corpus, tiny: Made, tmp_path_factory: pytest.TempPathFactory) -> InputStore:
    """The inputs of the three clips; tests must not change them."""
    return tiny.prepare(corpus.clips, tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def copied(prepared: InputStore, tmp_path: Path) -> Path:
    shutil.copytree(prepared.directory, tmp_path / "inputs")
    return tmp_path / "inputs"


def layout(clip: Clip, config: ExtractConfig) -> NDArray[np.int64]:
    return timeline.window_cells(clip.duration_s, window_s=config.window_s, stride_s=config.stride_s)


def content(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every clip's file with its time of writing."""
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in directory.glob("*/clips/*")
    }


# --- what is read is what stage one is fed


@pytest.mark.parametrize(
    ("names", "window_s", "stride_s"),
    [
        (("pixels", "logmel"), 2.0, 2.0),  # rows that straddle two windows are in neither
        pytest.param(("tiny-clip", "tiny-ast"), 10.0, 3.0, marks=pytest.mark.slow),
        pytest.param(("pixels", "logmel"), 4.0, 1.5, marks=pytest.mark.slow),
    ],
)
def test_a_window_is_what_readers_send(
    corpus: Corpus, tmp_path: Path, names: tuple[str, str], window_s: float, stride_s: float
) -> None:
    made = build(corpus, *names, window_s=window_s, stride_s=stride_s)
    store = made.prepare(corpus.clips, tmp_path)
    fronts = [
        Front(name=each.name, kind=each.kind, transform=each.transform, spectrum=each.spectrum, sees=each.sees)
        for each in (made.face, made.voice)
    ]
    sent: dict[tuple[str, str, int], tuple[int, NDArray[Any]]] = {}
    with Readers(
        made.config, fronts=fronts, clips=corpus.clips, lacking=lambda *_: names, stopping=lambda: False
    ) as readers:
        for event in readers.events():
            if isinstance(event, Inputs):
                for row, count, array in zip(event.rows, event.counts, event.inputs, strict=True):
                    sent[event.clip.id, event.encoder, row] = count, array
    pictures, sounds = 0, 0
    for clip in corpus.clips:
        for window, cells in enumerate(layout(clip, made.config)):
            found = store.window(clip.id, cells=cells, window=window)
            for cell, picture, seen in zip(cells.tolist(), found.pictures, found.seen, strict=True):
                _, expected = sent.get((clip.id, names[0], cell), (0, np.zeros_like(picture)))
                assert seen == ((clip.id, names[0], cell) in sent)
                assert picture.dtype == expected.dtype and np.array_equal(picture, expected)
                pictures += seen
            rows, heard = sent.get((clip.id, names[1], window), (0, np.zeros_like(found.spectrum)))
            assert found.rows == rows
            assert found.spectrum.dtype == heard.dtype and found.spectrum.tobytes() == heard.tobytes()
            sounds += rows > 0
    assert pictures > 50 and sounds > 3


def test_encoded_again_they_are_the_cached_features(
    corpus: Corpus, tiny: Made, prepared: InputStore, tmp_path: Path
) -> None:
    """Float16 values of `va extract`, at its batch sizes."""
    config = dataclasses.replace(tiny.config, out=tmp_path)
    pipeline.run(config, progress=lambda *_: None, loaded=[tiny.face, tiny.voice])
    face, voice = sorted(open_stores(tmp_path), key=lambda store: store.kind, reverse=True)
    at = [At(clip.id, cells, window) for clip in corpus.clips for window, cells in enumerate(layout(clip, tiny.config))]
    batch = prepared.batch(at)

    def encode(encoder: Encoder, values: torch.Tensor, *more: torch.Tensor, size: int) -> NDArray[np.float16]:
        """In batches of one size, the last one padded, as stage one does."""
        found = []
        for first in range(0, len(values), size):
            some = [each[first : first + size] for each in (values, *more)]
            short = size - len(some[0])
            full = [torch.cat([each, torch.zeros((short, *each.shape[1:]), dtype=each.dtype)]) for each in some]
            full[1:] = [each.clamp(min=1) for each in full[1:]]
            found.append(encoder.encode(*full)[: len(some[0])].half())
        return torch.cat(found).numpy()

    with torch.inference_mode():
        frames = encode(tiny.face, batch.pictures.flatten(0, 1), size=tiny.config.frame_batch)
        audio = encode(tiny.voice, batch.spectra, batch.rows, size=tiny.config.audio_batch)
    frames = frames.reshape(*batch.seen.shape, -1)
    assert batch.rows.dtype == torch.int64 and tiny.voice.valid_steps is not None
    for index, (clip_id, cells, window) in enumerate(at):
        seen, heard = face.read(clip_id), voice.read(clip_id)
        valid = (cells >= 0) & seen.valid[cells]
        assert np.array_equal(batch.seen[index].numpy(), valid)
        assert np.array_equal(frames[index][valid], seen.values[cells[valid]])
        steps = tiny.voice.valid_steps(int(batch.rows[index]))
        assert np.array_equal(steps, heard.valid[window])
        assert np.array_equal(audio[index][steps], heard.values[window][steps])


def test_cells_without_a_picture_and_padding_are_0(prepared: InputStore) -> None:
    found = prepared.window("late", cells=np.array([*range(9), -1, -1]), window=0)
    assert found.seen.tolist() == [False] * 2 + [True] * 7 + [False] * 2
    assert not found.pictures[~found.seen].any() and found.pictures[found.seen].any(axis=(1, 2, 3)).all()
    silent = prepared.window("mute", cells=np.arange(4), window=0)
    assert silent.rows == 0 and not silent.spectrum.any() and silent.seen.all()
    nothing = prepared.window("late", cells=np.full(3, -1), window=5)
    assert nothing.rows == 0 and not nothing.seen.any() and nothing.pictures.shape[0] == 3


def test_batches_read_ahead_are_those_read_in_turn(prepared: InputStore) -> None:
    starts = [(0, 1), (3, 4, 2), (2,)]
    batches = [[At("long", np.arange(6 * window, 6 * window + 20), window) for window in some] for some in starts]
    read: list[int] = []

    def asked() -> Iterator[list[At]]:
        for number, batch in enumerate(batches):
            read.append(number)
            yield batch

    going = prepared.ahead(asked())
    for number, batch in enumerate(batches):
        found = next(going)
        assert read[-1] == min(number + 1, len(batches) - 1), "one batch ahead, no more"
        for left, right in zip(found, prepared.batch(batch), strict=True):
            assert left.dtype == right.dtype and torch.equal(left, right)
    assert list(going) == [] and list(prepared.ahead([])) == []


def test_a_batch_that_cannot_be_read_fails_in_its_turn(prepared: InputStore) -> None:
    going = prepared.ahead([[At("long", np.arange(20), 0)], [At("other", np.arange(20), 0)]])
    assert next(going).rows.tolist() == [998]
    with pytest.raises(VAError, match="clip 'other'"):
        next(going)


# --- run again


def test_a_second_run_decodes_nothing(
    corpus: Corpus, tiny: Made, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = content(copied), []

    def take(self: Any, event: Event) -> None:
        seen.append(event)
        original(self, event)

    original = preparing._Preparation.take
    monkeypatch.setattr(preparing._Preparation, "take", take)
    lines: list[tuple[int, int, str]] = []
    tiny.prepare(corpus.clips, copied, progress=lambda *line: lines.append(line))
    assert content(copied) == before and len(before) == 6
    assert [type(event) for event in seen] == [Ended] * 3
    assert lines[-1][:2] == (3, 3)


def test_only_what_is_missing_damaged_or_changed_is_decoded(
    corpus: Corpus, tiny: Made, copied: Path, tmp_path: Path
) -> None:
    before = content(copied)
    damaged, missing = copied.glob("*/clips/long.h5")
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    missing.unlink()
    moved = tmp_path / "late.mp4"
    moved.write_bytes(corpus.clips[0].media.read_bytes() + b"\0")
    clips = [dataclasses.replace(clip, media=moved) if clip.id == "late" else clip for clip in corpus.clips]
    tiny.prepare(clips, copied)
    after = content(copied)
    assert {name for name in before if before[name] != after[name]} == {name for name in before if "mute" not in name}
    assert {name for name in before if before[name][1] != after[name][1]} == {name for name in before if "late" in name}


def test_a_tuned_encoder_shares_the_inputs_of_its_base(corpus: Corpus, tiny: Made, prepared: InputStore) -> None:
    def tuned(encoder: Encoder) -> Encoder:
        name = f"{encoder.name}@run-00000000"
        tuned = {"run": "run-00000000", "base": encoder.name, "base_weights": encoder.identity["weights"]}
        changed = {"encoder": name, "weights": "other", "tuned": tuned, "compute_dtype": "bfloat16", "compiled": True}
        return dataclasses.replace(encoder, name=name, identity={**encoder.identity, **changed})

    store = InputStore(prepared.directory, face=tuned(tiny.face), voice=tuned(tiny.voice))
    assert store.missing(corpus.clips) == ()
    cells = np.arange(20)
    for left, right in zip(*(each.window("long", cells=cells, window=1) for each in (store, prepared)), strict=True):
        assert np.array_equal(left, right)


def test_other_preprocessing_or_pictures_have_a_folder_of_their_own(tiny: Made, prepared: InputStore) -> None:
    for part, change in (("preprocessing", {"mean": [0, 0, 0]}), ("sampling", {"faces": {"mode": "crops"}})):
        identity = {**tiny.face.identity, part: tiny.face.identity[part] | change}
        other = InputStore(prepared.directory, face=dataclasses.replace(tiny.face, identity=identity), voice=tiny.voice)
        assert other.face.directory != prepared.face.directory
        assert other.voice.directory == prepared.voice.directory


# --- what goes wrong


def test_a_clip_that_fails_is_named_when_the_others_are_done(corpus: Corpus, tiny: Made, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    bad = [
        dataclasses.replace(corpus.clips[0], id="bad", media=broken),
        dataclasses.replace(corpus.clips[0], id="gone", media=tmp_path / "gone.mp4"),
    ]
    with pytest.raises(
        VAError, match=r"2 of 3 clips cannot be read: .*broken\.mp4: .*gone\.mp4: no such file"
    ) as caught:
        tiny.prepare([*bad, corpus.clips[2]], tmp_path / "inputs")
    assert "The others are done" in str(caught.value.hint)
    assert sorted(path.name for path in tmp_path.glob("inputs/*/clips/*")) == [f"{corpus.clips[2].id}.h5"] * 2


def test_a_stop_begins_no_more(corpus: Corpus, tiny: Made, copied: Path) -> None:
    for path in copied.glob("*/clips/*"):
        path.unlink()
    store = tiny.prepare(corpus.clips, copied, stopping=lambda: True)
    assert store.missing(corpus.clips) == corpus.clips
    assert list(copied.glob("*/clips/*")) == []


def test_too_little_room_is_said_before_anything_is_decoded(
    corpus: Corpus, tiny: Made, prepared: InputStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000_000))
    hour = dataclasses.replace(corpus.clips[0], id="hour", duration_s=3600.0)
    # 7200 pictures of 64 x 64 x 3 and 359 998 rows of 128 float32.
    expected = 1.01 * (7200 * 64 * 64 * 3 + 359_998 * 128 * 4) / 1e9
    with pytest.raises(VAError, match=rf"1 clips need {expected:.1f} GB more, 0\.0 GB are free"):
        tiny.prepare([hour], tmp_path / "deep" / "inputs")
    assert not (tmp_path / "deep").exists()
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    preparing.check_room(prepared.directory, [prepared.face, prepared.voice], corpus.clips)  # nothing is missing


def test_a_disk_that_fails_ends_the_run_and_leaves_nothing_temporary(
    corpus: Corpus, tiny: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        if ".h5" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        synced(path)

    synced = files.sync
    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(VAError, match=r"\.h5: cannot be written \(No space left"):
        tiny.prepare(corpus.clips, tmp_path)
    assert list(tmp_path.glob("*/clips/*")) == list(tmp_path.glob("*/clips/.*")) == []


def test_what_cannot_be_read_is_named(prepared: InputStore, tiny: Made, copied: Path) -> None:
    with pytest.raises(VAError, match="has no model inputs of clip 'other'"):
        prepared.window("other", cells=np.arange(2), window=0)
    with pytest.raises(VAError, match=r"mute\.h5: has 8 cells, fewer than the corpus says"):
        prepared.window("mute", cells=np.arange(9), window=0)
    store = InputStore(copied, face=tiny.face, voice=tiny.voice)
    store.face.path("late").write_bytes(b"no HDF5")
    with pytest.raises(VAError, match=r"late\.h5: is damaged"):
        store.window("late", cells=np.arange(2), window=0)
    shutil.copy(store.face.path("long"), store.face.path("mute"))
    with pytest.raises(VAError, match=r"mute\.h5: is damaged"):
        store.window("mute", cells=np.arange(2), window=0)
    with h5py.File(store.voice.path("mute"), "r+") as file:
        file["mute"].attrs["identity"] = "00000000"
    with pytest.raises(VAError, match=r"holds clip 'mute' of identity '00000000'"):
        store.voice.values("mute")


NONSENSE: dict[str, Callable[[Clip], Inputs]] = {
    "another shape": lambda clip: sent(clip, [0], np.zeros((1, 8, 8, 3), np.uint8)),
    "another dtype": lambda clip: sent(clip, [0], np.zeros((1, 64, 64, 3), np.float32)),
    "out of order": lambda clip: sent(clip, [3, 1], np.zeros((2, 64, 64, 3), np.uint8)),
    "beyond the end": lambda clip: sent(clip, [8], np.zeros((1, 64, 64, 3), np.uint8)),
    "no number": lambda clip: sent(clip, ["x"], np.zeros((1, 64, 64, 3), np.uint8)),
    "a window beyond the end": lambda clip: sent(clip, [99], np.zeros((1, 998, 128), np.float32), count=998),
    "other bins": lambda clip: sent(clip, [0], np.zeros((1, 998, 64), np.float32), count=99),
    "not finite": lambda clip: sent(clip, [0], np.full((1, 99, 128), np.nan, np.float32), count=99),
}


def sent(clip: Clip, rows: list[Any], array: NDArray[Any], *, count: int = 0) -> Inputs:
    name = "tiny-ast" if count else "tiny-clip"
    return Inputs(clip=clip, encoder=name, rows=rows, counts=[count] * len(rows), inputs=array)


@pytest.mark.parametrize("case", NONSENSE)
def test_a_reader_that_sends_nonsense_costs_its_clip(
    case: str, corpus: Corpus, tiny: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = corpus.clips[2]

    class Hostile:
        count = 1

        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> "Hostile":
            return self

        def __exit__(self, *_: object) -> None: ...
        def busy(self) -> dict[str, float]:
            return {}

        def events(self) -> Iterator[Event]:
            source = Source(size=1, digest="0")
            yield Begun(clip=clip, source=source, missing=("tiny-clip", "tiny-ast"), duration_s=4.0)
            yield NONSENSE[case](clip)
            yield sent(clip, [4], np.zeros((1, 64, 64, 3), np.uint8))
            yield Ended(clip=clip)

    monkeypatch.setattr(preparing, "Readers", Hostile)
    with pytest.raises(VAError, match=r"\.mp4: its reader process sent "):
        tiny.prepare([clip], tmp_path)
    assert list(tmp_path.glob("*/clips/*")) == []


def test_a_clip_takes_a_descriptor_only_while_it_is_read(
    prepared: InputStore, tiny: Made, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corpus may have more clips than a process may have open files; and none open to spare is no damage."""
    found: list[str] = []
    before = len(list(Path("/dev/fd").iterdir()))
    original = clipgroup.locate

    def locate(path: Path, *given: Any) -> clipgroup.Place:
        found.append(path.stem)
        return original(path, *given)

    monkeypatch.setattr(clipgroup, "locate", locate)
    store = InputStore(copied, face=tiny.face, voice=tiny.voice)
    for name in (*SECONDS, *SECONDS):
        both = [each.window(name, cells=np.arange(4), window=0) for each in (store, prepared)]
        for mine, other in zip(*both, strict=True):
            assert np.array_equal(mine, other)
    assert len(list(Path("/dev/fd").iterdir())) == before
    assert max(map(found.count, SECONDS)) <= 4, "each store looks into each of its two files once"
    shutil.copy(store.face.path("late"), copied / "late.h5")
    (copied / "late.h5").replace(store.face.path("late"))
    found.clear()
    assert store.window("late", cells=np.arange(4), window=0).seen.any() and found == ["late"], "it was replaced"
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(VAError, match=r"late\.h5: cannot be read \(Too many open files\)"):
            store.face.values("late")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
