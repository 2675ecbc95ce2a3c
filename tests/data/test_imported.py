"""Imported features against values written out by hand: the grid, the masks, and what is refused."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from va import cli
from va.data import corpus, imported
from va.data.config import ImportConfig
from va.data.corpus import Clip, Truth
from va.data.features import ClipFeatures, FeatureStore
from va.errors import VAError


def make_corpus(root: Path, **durations_s: float) -> Path:
    truth = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.ones(1, np.bool_))
    entries = []
    for number, (name, duration_s) in enumerate(durations_s.items()):
        clip = Clip(
            id=name.replace("__", "/"),
            media=root / f"{name}.mp4",
            split="train",
            identity=f"p{number}",
            num_frames=1,
            duration_s=duration_s,
        )
        entries.append((clip, truth))
    return corpus.save(root, name="x", synthetic=True, media_root=root, entries=entries).path


def config(root: Path, **changes: Any) -> ImportConfig:
    made = {"name": "mine", "kind": "frames", "window_s": 2.0, "stride_s": 1.0, **changes}
    return ImportConfig(directory=root / "have", corpus=root / "corpus.json", out=root / "features", **made)


def run(made: ImportConfig) -> imported.Summary:
    return imported.run(made, progress=lambda *_: None)


def load_one(root: Path, array: Any, *, duration_s: float, **changes: Any) -> ClipFeatures:
    """Import one clip `a` and read it back from the store."""
    make_corpus(root, a=duration_s)
    (root / "have").mkdir()
    if isinstance(array, dict):
        np.savez(root / "have" / "a.npz", **array)
    else:
        np.save(root / "have" / "a.npy", array)
    summary = run(config(root, **changes))
    assert summary.failed == {}
    store = FeatureStore(summary.store)
    assert list(store.problems()) == []
    return store.read("a")


def rows(count: int) -> NDArray[np.float32]:
    """Row i holds i and -i."""
    return np.stack([np.arange(count), -np.arange(count)], axis=1).astype(np.float32)


def test_frames_take_the_last_row_at_or_before_the_centre(tmp_path: Path) -> None:
    """At 5 rows a second rows appear at 0, .2, .4, ...; centres are at .25, .75, 1.25, 1.75."""
    found = load_one(tmp_path, rows(10), duration_s=2.0, rate_hz=5.0)
    assert found.values[:, 0].tolist() == [1, 3, 6, 8]
    assert found.values[:, 1].tolist() == [-1, -3, -6, -8]
    assert found.valid.all()
    assert found.time_s.tolist() == [0.25, 0.75, 1.25, 1.75]


def test_a_row_exactly_at_the_centre_counts(tmp_path: Path) -> None:
    assert load_one(tmp_path, rows(8), duration_s=2.0, rate_hz=4.0).values[:, 0].tolist() == [1, 3, 5, 7]


def test_one_row_per_cell_is_the_identity(tmp_path: Path) -> None:
    assert load_one(tmp_path, rows(4), duration_s=2.0, rate_hz=2.0).values[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("key", ["times", "time_s"])
def test_times_in_the_file_and_gaps(tmp_path: Path, key: str) -> None:
    """No row before 0.6 s and none from 1.0 to 3.1 s: such cells are masked and 0."""
    times = np.array([0.6, 0.8, 1.0, 3.1, 3.3, 3.5])
    found = load_one(tmp_path, {"features": rows(6) + 1, key: times}, duration_s=4.0)
    assert found.valid.tolist() == [False, True, True, False, False, False, True, True]
    assert found.values[:, 0].tolist() == [0, 1, 3, 0, 0, 0, 4, 6]


def test_times_win_over_the_rate(tmp_path: Path) -> None:
    found = load_one(tmp_path, {"features": rows(2), "times": [0.0, 1.0]}, duration_s=2.0, rate_hz=100.0)
    assert found.values[:, 0].tolist() == [0, 0, 1, 1]


def test_sound_is_averaged_by_cell_and_cut_into_windows(tmp_path: Path) -> None:
    """4 rows a second: two a cell. Windows of 4 cells every 2, the last one padded."""
    found = load_one(tmp_path, rows(10), duration_s=2.5, rate_hz=4.0, kind="audio")
    mean = [0.5, 2.5, 4.5, 6.5, 8.5]
    assert found.time_s.tolist() == [0.0, 1.0]
    assert found.values[:, :, 0].tolist() == [mean[:4], [*mean[2:], 0]]
    assert found.valid.tolist() == [[True] * 4, [True] * 3 + [False]]


def test_a_cell_without_sound_is_masked(tmp_path: Path) -> None:
    found = load_one(
        tmp_path, {"features": rows(3) + 1, "times": [0.1, 0.3, 1.2]}, duration_s=2.0, kind="audio", stride_s=2.0
    )
    assert found.valid.tolist() == [[True, False, True, False]]
    assert found.values[0, :, 0].tolist() == [1.5, 0, 3, 0]


def test_audio_rows_against_a_slow_average() -> None:
    rng = np.random.default_rng(0)
    values, center_s = rng.normal(size=(500, 3)), np.sort(rng.uniform(0, 12, 500))
    found, valid = imported.audio_on_grid(values, center_s=center_s, cells=20)
    for cell in range(20):
        inside = (center_s >= 0.5 * cell) & (center_s < 0.5 * cell + 0.5)
        np.testing.assert_array_equal(found[cell], values[inside].mean(axis=0).astype(np.float16))
    assert valid.all()


def test_a_rate_that_meets_borders_exactly() -> None:
    """Rows every 10 ms of 10 s: 50 a cell, whatever 0.1 + 0.2 is."""
    _, valid = imported.audio_on_grid(np.ones((1000, 1)), center_s=(np.arange(1000) + 0.5) / 100, cells=20)
    values, _ = imported.audio_on_grid(
        np.repeat(np.arange(20.0), 50)[:, None], center_s=(np.arange(1000) + 0.5) / 100, cells=20
    )
    assert valid.all()
    assert values[:, 0].tolist() == list(range(20))


def test_identity_and_source(tmp_path: Path) -> None:
    make_corpus(tmp_path, a=2.0)
    (tmp_path / "have").mkdir()
    np.save(tmp_path / "have" / "a.npy", rows(4))
    first = run(config(tmp_path, rate_hz=2.0))
    identity = FeatureStore(first.store).identity
    assert identity["imported"] is True
    assert (identity["encoder"], identity["kind"], identity["dim"]) == ("mine", "frames", 2)
    assert identity["sampling"]["rate_hz"] == 2.0
    assert not identity["demo"] and not identity["baseline"]
    assert (first.written, first.present) == (1, 0)
    again = run(config(tmp_path, rate_hz=2.0))
    assert (again.written, again.present, again.store) == (0, 1, first.store)
    assert run(config(tmp_path, rate_hz=2.1)).store != first.store
    np.save(tmp_path / "have" / "a.npy", rows(4) + 1)
    assert run(config(tmp_path, rate_hz=2.0)).store != first.store


def test_missing_extra_and_odd_clips(tmp_path: Path) -> None:
    make_corpus(tmp_path, a=2.0, b=2.0, c__d=2.0, e=2.0)
    have = tmp_path / "have"
    have.mkdir()
    np.save(have / "a.npy", rows(4))
    np.save(have / "c%2Fd.npy", rows(4))
    np.save(have / "e.npy", np.ones((4, 3)))
    np.save(have / "other.npy", rows(4))
    (have / "notes.txt").touch()
    summary = run(config(tmp_path, rate_hz=2.0))
    assert summary.written == 2
    assert set(summary.failed) == {"b", "e"}
    assert "has no b.npy or .npz" in summary.failed["b"]
    assert "has 3 features a row, others have 2" in summary.failed["e"]
    assert summary.extra == ("other.npy",)
    assert FeatureStore(summary.store).clip_ids() == ("a", "c/d")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[1.0, math.nan]] * 4), "not finite"),
        (np.array([[1.0, math.inf]] * 4), "not finite"),
        (np.array([[1.0, 7e4]] * 4), "beyond 65504"),
        (np.ones(4), "must be numbers"),
        (np.ones((0, 4)), "must be numbers"),
        (np.ones((4, 2), complex), "must be numbers"),
        (np.array([["a"]] * 4), "must be numbers"),
        ({"feature": np.ones((4, 2))}, "nothing of that name"),
        ({"features": np.ones((4, 2)), "times": np.arange(3.0)}, "One per row"),
        ({"features": np.ones((4, 2)), "times": [0.0, 1, 1, 2]}, "rising"),
        ({"features": np.ones((4, 2)), "times": [-1.0, 0, 1, 2]}, "at least 0"),
        ({"features": np.ones((4, 2)), "times": [0.0, 1, math.nan, 2]}, "finite"),
        ({"features": np.ones((4, 2))}, "--rate-hz was not given"),
        (np.ones((8, 2)), "--rate-hz was not given"),
    ],
)
def test_what_cannot_be_trusted_is_refused(tmp_path: Path, array: Any, message: str) -> None:
    file = tmp_path / ("a.npz" if isinstance(array, dict) else "a.npy")
    np.savez(file, **array) if isinstance(array, dict) else np.save(file, array)
    with pytest.raises(VAError) as caught:
        imported.read(file, rate_hz=None)
    assert message in f"{caught.value.message} {caught.value.hint}"


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    for name in ("a.npy", "a.npz"):
        array = np.array([[Trap()]], dtype=object)
        np.save(tmp_path / name, array) if name == "a.npy" else np.savez(tmp_path / name, features=array)
        with pytest.raises(VAError, match="cannot be read as numbers"):
            imported.read(tmp_path / name, rate_hz=1.0)
    assert not (tmp_path / "ran").exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", rows(100))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:300])
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 not a zip")
    for name in ("a.npy", "b.npz"):
        with pytest.raises(VAError, match="cannot be read as numbers"):
            imported.read(tmp_path / name, rate_hz=1.0)


@pytest.mark.parametrize(("count", "fits"), [(100, True), (110, True), (90, True), (112, False), (88, False)])
def test_a_rate_that_does_not_fit_the_clip_is_refused(tmp_path: Path, count: int, fits: bool) -> None:
    """Rows of frames without a face left out, or a wrong rate, would shift everything in time."""
    make_corpus(tmp_path, a=10.0)
    (tmp_path / "have").mkdir()
    np.save(tmp_path / "have" / "a.npy", rows(count))
    failed = run(config(tmp_path, rate_hz=10.0)).failed
    assert (failed == {}) == fits
    assert fits or f"{count} rows at 10 a second last" in failed["a"]


def test_times_in_other_units_are_refused(tmp_path: Path) -> None:
    make_corpus(tmp_path, a=10.0)
    (tmp_path / "have").mkdir()
    np.savez(tmp_path / "have" / "a.npz", features=rows(3), times=[0, 5000, 9900])
    assert "its last row is at 9900.00 s" in run(config(tmp_path)).failed["a"]


def test_nothing_at_all(tmp_path: Path) -> None:
    make_corpus(tmp_path, a=2.0)
    with pytest.raises(VAError, match="is not a folder"):
        run(config(tmp_path, rate_hz=2.0))
    (tmp_path / "have").mkdir()
    with pytest.raises(VAError, match="named like a clip of the corpus"):
        run(config(tmp_path, rate_hz=2.0))
    np.save(tmp_path / "have" / "a.npy", rows(4))
    np.savez(tmp_path / "have" / "a.npz", features=rows(4))
    with pytest.raises(VAError, match=r"has a\.npy and a\.npz of one clip"):
        run(config(tmp_path, rate_hz=2.0))
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"name": "a/b"}, "--name"),
        ({"name": "../b"}, "--name"),
        ({"name": ""}, "--name"),
        ({"rate_hz": 0.0}, "--rate-hz"),
        ({"rate_hz": -1.0}, "--rate-hz"),
        ({"window_s": 0.3}, "--window-s"),
        ({"stride_s": 2.5}, "--stride-s"),
    ],
)
def test_ranges(tmp_path: Path, change: dict[str, Any], option: str) -> None:
    with pytest.raises(VAError, match=f"^{option}: .* is out of range"):
        config(tmp_path, **change)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make_corpus(tmp_path, a=2.0, b=2.0)
    (tmp_path / "have").mkdir()
    np.save(tmp_path / "have" / "a.npy", rows(4))
    arguments = ["import-features", tmp_path / "have", "--corpus", tmp_path, "--out", tmp_path / "f"]
    arguments += ["--name", "mine", "--kind", "frames", "--rate-hz", "2"]
    monkeypatch.setattr(sys, "argv", ["va", *map(str, arguments)])
    for missing in (True, False):
        with pytest.raises(SystemExit) as stop:
            cli.main()
        shown = capsys.readouterr()
        assert int(stop.value.code or 0) == missing
        assert ("failed: b" in shown.err) == ("fix:" in shown.err) == missing
        np.save(tmp_path / "have" / "b.npy", rows(4))
    assert Path(shown.out.splitlines()[-1]).parent == tmp_path / "f"


def test_a_damaged_shard_is_mended_first_and_its_clips_need_nothing(tmp_path: Path) -> None:
    make_corpus(tmp_path, a=2.0, b=2.0)
    (tmp_path / "have").mkdir()
    for name in "ab":
        np.save(tmp_path / "have" / f"{name}.npy", rows(10))
    first = run(config(tmp_path, rate_hz=5.0))
    shard = FeatureStore(first.store).pack(at_least=1)
    assert shard is not None
    again = run(config(tmp_path, rate_hz=5.0))
    assert (again.written, again.present, again.mended) == (0, 2, ())
    shard.write_bytes(shard.read_bytes() + b"x")
    mended = run(config(tmp_path, rate_hz=5.0))
    assert (mended.written, mended.present) == (0, 2)
    assert [str(shard) in line for line in mended.mended] == [True]
    assert list(FeatureStore(first.store).problems()) == []
