"""What holds for any input: readers answer or refuse in two lines, and clocks agree with a loop that counts.

Few examples by default, the same each time; `VA_EXAMPLES=1000` draws that many new ones, as a slow test does.
"""

import contextlib
import json
import math
import os
import string
import subprocess
import sys
from fractions import Fraction
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from va import bounded, files
from va.data import corpus, labels, npfiles, prototypes, sample, timeline
from va.data.corpus import Clip, Corpus, Truth
from va.errors import VAError
from va.extract import prompts
from va.extract.process import Reader, ReaderError
from va.settings import resolve
from va.train.config import TrainConfig

MANY = int(os.environ.get("VA_EXAMPLES", "0"))
# A folder of a test serves all of its examples: each replaces what it reads.
drawn = settings(
    max_examples=MANY or 40,
    derandomize=not MANY,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@contextlib.contextmanager
def answered(path: Path) -> Any:
    """The block may end with two lines that name the file, and with no other exception."""
    try:
        yield
    except VAError as error:
        assert error.message.startswith(str(path)), error.message
        assert error.hint and "\n" not in error.message


# --- clocks

halves = st.integers(1, 60).map(lambda count: count / 2)


@drawn
@given(duration=st.floats(0.001, 3000), window=halves, stride=halves)
@example(duration=10.0, window=10.0, stride=3.0)
@example(duration=0.5 + 1e-7, window=0.5, stride=0.5)
def test_windows_are_those_of_a_loop(duration: float, window: float, stride: float) -> None:
    cells = 1
    while cells * 0.5 < duration - 1e-6:
        cells += 1
    assert timeline.num_cells(duration) == cells
    starts, start = [0], 0
    while start + 2 * window < cells:
        start += int(2 * stride)
        starts.append(start)
    expected = [[at + step if at + step < cells else -1 for step in range(int(2 * window))] for at in starts]
    found = timeline.window_cells(duration, window_s=window, stride_s=stride)
    assert found.dtype == np.int64 and found.tolist() == expected
    assert timeline.num_windows(duration, window_s=window, stride_s=stride) == len(starts)
    assert timeline.window_starts(duration, window_s=window, stride_s=stride).tolist() == [at / 2 for at in starts]
    if stride <= window:
        assert set(found[found >= 0].tolist()) == set(range(cells)), "every cell is in a window"


@drawn
@given(
    rate=st.fractions(Fraction(1, 10), 240, max_denominator=1001),
    first=st.floats(0, 5),
    frames=st.integers(1, 120),
    window=halves,
    stride=halves,
)
def test_every_frame_is_covered_whatever_its_rate(
    rate: Fraction, first: float, frames: int, window: float, stride: float
) -> None:
    assume(stride <= window)
    time_s = first + np.arange(frames) * float(1 / rate)
    duration = float(time_s[-1] + 1 / rate)
    covered = timeline.window_cells(duration, window_s=window, stride_s=stride)
    cells = set(covered[covered >= 0].tolist())
    assert max(cells) == timeline.num_cells(duration) - 1
    assert all(math.floor(at / 0.5) in cells for at in time_s)
    asked = timeline.cell_centers(timeline.num_cells(duration))
    found = timeline.frame_at(time_s, asked)
    for at, index in zip(asked, found, strict=True):
        expected = -1
        for number, shown in enumerate(time_s):
            if shown <= at + 1e-6:
                expected = number
        assert index == expected and -1 <= index < frames


@drawn
@given(st.data())
def test_steps_that_were_heard_mark_their_cells(data: st.DataObject) -> None:
    count, steps = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 12))
    window, stride = data.draw(halves), data.draw(halves)
    cells = timeline.window_cells(count / 2, window_s=window, stride_s=stride)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    valid = rng.random((len(cells), steps)) < 0.5
    expected = [False] * count
    for row in range(len(cells)):
        for step in range(steps):
            cell = cells[row][int((step + 0.5) * cells.shape[1] / steps)]
            if valid[row][step] and cell >= 0:
                expected[cell] = True
    assert timeline.cells_of_steps(valid, cells, count=count).tolist() == expected


# --- text

numbers = st.one_of(st.just(-5.0), st.floats(-1, 1, width=32))
noise = st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
annotation_like = st.text(st.sampled_from("valence,arousal\n\r0123456789.-+eE \t;\"'_"), max_size=200).map(str.encode)


def spoilt(whole: bytes) -> st.SearchStrategy[bytes]:
    """A good file of which a piece was replaced."""
    place = st.integers(0, len(whole))
    return st.builds(
        lambda first, last, other: whole[: min(first, last)] + other + whole[max(first, last) :],
        place,
        place,
        st.binary(max_size=12),
    )


HEADER = b"valence,arousal\n"
GOOD_LABELS = HEADER + b"0.5,-0.25\n-5,-5\n1,-1\n"


@drawn
@given(
    content=st.one_of(noise, annotation_like, annotation_like.map(b"valence,arousal\n".__add__), spoilt(GOOD_LABELS))
)
def test_any_annotation_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with answered(path):
        va, valid = labels.read_annotation(path)
        assert va.dtype == np.float32 and valid.dtype == np.bool_
        assert va.shape == (len(valid), 2) and len(valid) >= 1
        assert np.isfinite(va).all() and (np.abs(va) <= 1).all() and not va[~valid].any()


@drawn
@given(rows=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=50), ending=st.sampled_from(["\n", "\r\n"]))
def test_annotations_come_back(tmp_path: Path, rows: list[tuple[float, float]], ending: str) -> None:
    path = tmp_path / "a.txt"
    lines = ["valence,arousal", *(f"{valence!r},{arousal!r}" for valence, arousal in rows), ""]
    path.write_bytes(ending.join(lines).encode())
    va, valid = labels.read_annotation(path)
    for row, found, marked in zip(rows, va, valid, strict=True):
        assert marked == (-5.0 not in row)
        assert found.tolist() == ([np.float32(value) for value in row] if marked else [0, 0])


GOOD_SAMPLE = b"image_location,valence,arousal\nvideo1/00001.jpg,0,0\nvideo1/00002.jpg,0,0\na,b/1.png,0,0\n"


@drawn
@given(content=st.one_of(noise, spoilt(GOOD_SAMPLE)))
def test_any_sample_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.txt"
    path.write_bytes(content)
    with answered(path):
        found = sample.read_sample(path)
        assert len(found.locations) == len(found.clips) == len(found.frames) >= 1
        assert found.frames.min() >= 1 and set(found.clips.tolist()) == set(range(len(found.names)))
        keys = list(zip(found.clips.tolist(), found.frames.tolist(), strict=True))
        assert len(set(keys)) == len(keys)


GOOD_TOML = b"[train]\nepochs = 3\nseeds = [1, 2]\nlearning_rate = 0.001\nname = 'x'\n"


@drawn
@given(
    content=st.one_of(
        noise, spoilt(GOOD_TOML), st.text(string.printable, max_size=80).map(lambda text: f"[train]\n{text}".encode())
    )
)
def test_any_settings_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    given_ = {"corpus": Path("c"), "features": Path("f"), "out": Path("o")}
    with contextlib.suppress(VAError):  # one of a value out of range names its option
        made = resolve(TrainConfig, section="train", sections=["train"], file=path, flags=given_)
        assert isinstance(made, TrainConfig)
    with contextlib.suppress(VAError):
        texts, _ = prompts.read_texts(path)
        assert texts and all(isinstance(text, str) and text.strip() == text for text in texts)


# --- JSON

values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@drawn
@given(value=st.dictionaries(st.text(max_size=6), values, max_size=5))
def test_json_comes_back(tmp_path: Path, value: dict[str, Any]) -> None:
    path = tmp_path / "a.json"
    try:
        files.write_json(path, value)
    except UnicodeEncodeError:
        assume(False)
    assert bounded.read_json(path, what="x", hint="y") == value


@drawn
@given(content=noise)
def test_any_json_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with answered(path):
        assert isinstance(bounded.read_json(path, what="x", hint="y"), dict)


def _leaves(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [before, *(place for key, each in inner for place in _leaves(each, (*before, key)))]


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A JSON value with another one in a place."""
    copied = json.loads(json.dumps(value))
    inner = copied
    for key in place[:-1]:
        inner = inner[key]
    if not place:
        return new
    inner[place[-1]] = new
    return copied


def manifest(root: Path) -> Path:
    truth = Truth(time_s=np.zeros(2), va=np.zeros((2, 2), np.float32), valid=np.ones(2, np.bool_))
    clips = [
        Clip(id=name, media=root / f"{name}.mp4", split="train", identity=name, num_frames=2, duration_s=1.5)
        for name in ("a", "b")
    ]
    return corpus.save(root, name="x", synthetic=True, media_root=root, entries=[(clip, truth) for clip in clips]).path


@drawn
@given(data=st.data())
def test_any_manifest_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "corpus.json"
    good = json.loads(manifest(tmp_path).read_text())
    place = data.draw(st.sampled_from(_leaves(good)))
    path.write_text(json.dumps(replaced(good, place, data.draw(values))), encoding="utf-8")
    with answered(path):
        made = Corpus.load(path)
        assert len({clip.id for clip in made.clips}) == len(made.clips)
        for clip in made.clips:
            assert isinstance(clip.id, str) and clip.duration_s > 0 and ".." not in clip.media.parts
            files.safe_name(clip.id)
            with answered(tmp_path / "labels"):
                assert len(made.truth(clip).valid) == clip.num_frames


@drawn
@given(data=st.data())
def test_any_prototypes_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    good = {"texts": ["a", "b"], "templates": ["{}"], "values": [[0.5, 1.0], [1.0, 0.5]]}
    path = tmp_path / prototypes.NAME
    place = data.draw(st.sampled_from(_leaves(good)))
    path.write_text(json.dumps(replaced(good, place, data.draw(values))), encoding="utf-8")
    with answered(path):
        found = prototypes.read(tmp_path)
        assert found.values.shape[0] == len(found.texts) and np.isfinite(found.values).all()


# --- arrays and the wire


@drawn
@given(data=st.data())
def test_any_arrays_are_those_that_were_written_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.npz"
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(path, a=array, b=array.T)
    whole = path.read_bytes()
    path.write_bytes(data.draw(spoilt(whole)))
    try:
        found = npfiles.read(path, wanted=("a", "b"), largest=1 << 20)
    except Exception as error:
        assert not isinstance(error, MemoryError | AssertionError)
        return
    for name, expected in (("a", array), ("b", array.T)):
        if name in found:
            assert found[name].dtype == expected.dtype and found[name].tolist() == expected.tolist()


messages = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["source", "clip", "inputs", "failed", "end", "other"])},
        optional={
            "size": values,
            "digest": values,
            "duration_s": values,
            "rows": st.one_of(values, st.lists(st.integers(-2, 5), min_size=1, max_size=3)),
            "counts": st.one_of(values, st.lists(st.integers(-2, 5), min_size=1, max_size=3)),
            "encoder": st.one_of(values, st.just("eye")),
            "message": values,
            "busy": st.one_of(values, st.just({"decode": 1.5})),
            "shape": st.one_of(values, st.just([2, 2])),
            "dtype": st.one_of(values, st.just("uint8")),
        },
    ).map(lambda message: json.dumps(message).encode()),
    noise,
    st.sampled_from(
        [b"[" * 100_000, b'{"shape": [1e999], "dtype": "uint8"}', b'{"kind": "clip", "duration_s": 1e999}']
    ),
)


class _Ended:
    """A process that has ended."""

    exitcode = 0

    def join(self, timeout: float) -> None: ...


BEGUN = [b'{"kind": "source", "size": 1, "digest": "x"}', b'{"kind": "clip", "duration_s": 2.0}']
ROWS = b'{"kind": "inputs", "encoder": "eye", "rows": %b, "counts": %b, "shape": [2, 2], "dtype": "uint8"}'


@drawn
@given(sent=st.builds(list.__add__, st.sampled_from([[], BEGUN[:1], BEGUN]), st.lists(messages, max_size=4)))
@example(sent=[BEGUN[0], b'{"kind": "clip", "duration_s": ' + b"9" * 400 + b"}"])
@example(sent=[*BEGUN, ROWS % (b"[0, 1]", b"[0, 0]"), b'{"kind": "end"}'])
@example(sent=[*BEGUN, ROWS % (b'["a", "b"]', b"[0, 0]")])
@example(sent=[*BEGUN, ROWS % (b"[0, 1.5]", b"[0, 0]")])
@example(sent=[*BEGUN, ROWS % (b"[0, 1]", b"[0, -1]")])
@example(sent=[*BEGUN, ROWS % (b"[0, 1]", b"[true, null]")])
@example(sent=[*BEGUN, b'{"kind": "end", "busy": {"decode": "long"}}'])
def test_whatever_a_reader_process_sends_costs_its_clip_at_most(sent: list[bytes]) -> None:
    ours, theirs = Pipe()
    for message in sent:
        theirs.send_bytes(message)
        if b'"shape"' in message:
            theirs.send_bytes(bytes(4))
    theirs.close()
    reader = object.__new__(Reader)
    reader._connection, reader._process, reader._stall_s = ours, _Ended(), 1.0
    reader._send = lambda header: None  # type: ignore[method-assign]
    clip = Clip(id="a", media=Path("a"), split="train", identity="p", num_frames=1, duration_s=1.0)
    with contextlib.suppress(ReaderError), contextlib.closing(ours):
        for event, busy in reader.read(clip, lambda *_: ("eye",)):
            assert event.clip is clip and all(isinstance(seconds, float) for seconds in busy.values())
            if hasattr(event, "rows"):
                assert len(event.rows) == len(event.counts) == len(event.inputs)
                assert all(type(row) is int and row >= 0 for row in [*event.rows, *event.counts])


@pytest.mark.slow
@pytest.mark.skipif(MANY > 0, reason="this is it")
def test_many_more_examples() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", __file__, "-p", "no:cacheprovider"]
    done = subprocess.run(command, env={**os.environ, "VA_EXAMPLES": "1000"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
