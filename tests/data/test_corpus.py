"""The manifest: what is saved is loaded, what is broken is refused, and dev is chosen by name alone."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from va import files
from va.data import corpus
from va.data.corpus import Clip, Corpus, Skipped, Truth, dev_identities
from va.errors import VAError


def entry(root: Path, name: str, *, frames: int = 5, seed: int = 0, **changes: Any) -> tuple[Clip, Truth]:
    rng = np.random.default_rng(seed)
    valid = np.arange(frames) % 3 != 1
    va = np.where(valid[:, None], rng.uniform(-1, 1, (frames, 2)), 0).astype(np.float32)
    settings = {"split": "train", "identity": f"person of {name}", "duration_s": frames / 29.97, **changes}
    clip = Clip(id=name, media=root / "videos" / f"{name}.mp4", num_frames=frames, **settings)
    return clip, Truth(time_s=np.arange(frames) / 29.97, va=va, valid=valid)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Corpus, list[tuple[Clip, Truth]]]:
    root = tmp_path / "media"
    entries = [
        entry(root, "b", seed=1, split="val"),
        entry(root, "a/with slash", seed=2, frames=7),
        entry(root, "c", seed=3, split="test"),
        entry(root, "Åsa", seed=4),
    ]
    made = corpus.save(tmp_path / "out", name="Test", synthetic=True, media_root=root, entries=entries)
    return made, entries


def edit(manifest: Path, change: Any) -> None:
    data = json.loads(manifest.read_text())
    change(data)
    manifest.write_text(json.dumps(data))


def test_round_trip(saved: tuple[Corpus, list[tuple[Clip, Truth]]]) -> None:
    made, entries = saved
    for path in (made.path, made.path.parent):
        loaded = Corpus.load(path)
        assert loaded == made
        assert (loaded.name, loaded.synthetic) == ("Test", True)
        assert loaded.clips == tuple(sorted((clip for clip, _ in entries), key=lambda clip: clip.id))
        for clip, truth in entries:
            found = loaded.truth(clip)
            for field in dataclasses.fields(Truth):
                expected, array = getattr(truth, field.name), getattr(found, field.name)
                assert array.dtype == expected.dtype
                np.testing.assert_array_equal(array, expected)


def test_what_was_skipped_is_kept(tmp_path: Path) -> None:
    skipped = [Skipped(what="b/x.mp4", why="has no annotation"), Skipped(what="ä,\n", why="")]
    settings = {"name": "T", "synthetic": False, "media_root": tmp_path, "entries": [entry(tmp_path, "a")]}
    made = corpus.save(tmp_path / "out", skipped=skipped, **settings)
    assert made.skipped == tuple(skipped) and Corpus.load(made.path) == made
    edit(made.path, lambda data: data.pop("skipped"))  # as an earlier version wrote it
    assert Corpus.load(made.path).skipped == ()
    for wrong in (5, ["x"], [{"what": "x"}]):
        edit(made.path, lambda data, wrong=wrong: data.update(skipped=wrong))
        with pytest.raises(VAError, match="is not a corpus manifest"):
            Corpus.load(made.path)


def test_a_manifest_of_600_clips_of_5000_frames_takes_less_than_2_mb(tmp_path: Path) -> None:
    # A tenth of the clips in a tenth of the size; names are as long as Aff-Wild2's, and labels lie in sidecars.
    names = [f"{number}-30-1920x1080-2_{'left' if number % 2 else 'right'}" for number in range(540, 600)]
    entries = [entry(tmp_path / "new_vids", name, frames=5000) for name in names]
    skipped = [Skipped(what=f"new_vids/spare{number}.mp4", why="has no annotation") for number in range(16)]
    made = corpus.save(tmp_path, name="T", synthetic=False, media_root=tmp_path, entries=entries, skipped=skipped)
    assert len(made.clips) == 60 and made.path.stat().st_size < 2e6 / 10


def test_splits(saved: tuple[Corpus, list[tuple[Clip, Truth]]]) -> None:
    made, _ = saved
    assert [clip.id for clip in made.split("train")] == ["a/with slash", "Åsa"]
    assert [clip.id for clip in made.split("val", "test")] == ["b", "c"]
    assert made.split() == ()


def test_a_corpus_beside_its_media_can_be_moved(tmp_path: Path) -> None:
    root = tmp_path / "old"
    corpus.save(root, name="x", synthetic=False, media_root=root / "media", entries=[entry(root / "media", "a")])
    root.rename(tmp_path / "new")
    assert Corpus.load(tmp_path / "new").clips[0].media == tmp_path / "new" / "media" / "videos" / "a.mp4"


def test_a_corpus_made_and_loaded_by_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path("media")
    corpus.save(Path("out"), name="x", synthetic=False, media_root=root, entries=[entry(root, "a")])
    monkeypatch.chdir("/")
    assert Corpus.load(tmp_path / "out").clips[0].media == tmp_path / "media" / "videos" / "a.mp4"


def test_the_manifest_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = files.sync
    monkeypatch.setattr(files, "sync", lambda path: (order.append(path.name), real(path)))
    root = tmp_path / "media"
    entries = [entry(root, "a"), entry(root, "b")]
    corpus.save(tmp_path / "out", name="x", synthetic=False, media_root=root, entries=entries)
    written = [name for name in order if name.startswith(".")]
    assert [name.split(".")[1] for name in written] == ["a", "b", "corpus"]


def test_a_failure_midway_leaves_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = np.savez

    def full_disk(stream: Any, **arrays: Any) -> None:
        if len(arrays["time_s"]) == 7:
            raise OSError(28, "No space left on device")
        real(stream, **arrays)

    monkeypatch.setattr(np, "savez", full_disk)
    root = tmp_path / "media"
    with pytest.raises(VAError, match=r"b.npz: cannot be written \(No space left"):
        corpus.save(
            tmp_path / "out",
            name="x",
            synthetic=False,
            media_root=root,
            entries=[entry(root, "a"), entry(root, "b", frames=7)],
        )
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["a.npz"]


def test_two_clips_with_one_id_are_refused_when_saving(tmp_path: Path) -> None:
    root = tmp_path / "media"
    with pytest.raises(VAError, match="clip 'a' appears twice"):
        corpus.save(
            tmp_path / "out", name="x", synthetic=False, media_root=root, entries=[entry(root, "a"), entry(root, "a")]
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.mp4", "videos/../../secret.mp4"])
def test_a_path_that_leaves_the_root_is_refused(saved: tuple[Corpus, Any], path: str) -> None:
    edit(saved[0].path, lambda data: data["clips"][1].update(media=path))
    with pytest.raises(VAError, match=r"corpus.json: '.*' leaves the media root"):
        Corpus.load(saved[0].path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(schema=2), "has schema 2, this version reads 1"),
        (lambda data: data.pop("schema"), "has schema None"),
        (lambda data: data.pop("media_root"), r"is not a corpus manifest \(KeyError\('media_root'\)\)"),
        (lambda data: data.pop("name"), "is not a corpus manifest"),
        (lambda data: data.update(clips=3), "is not a corpus manifest"),
        (lambda data: data.update(clips=[3]), "is not a corpus manifest"),
        (lambda data: data["clips"][0].pop("frames"), r"KeyError\('frames'\)"),
        (lambda data: data["clips"][0].update(frames="many"), "is not a corpus manifest"),
        (lambda data: data["clips"][0].update(split="dev"), "clip 'a/with slash' has split 'dev'"),
        (lambda data: data["clips"][0].update(duration_s=math.nan), r"NaN is not a number"),
        (lambda data: data["clips"][0].update(duration_s=0), "lasts 0.0 s"),
        (lambda data: data["clips"][0].update(id=7), "is not a name"),
        (lambda data: data["clips"][0].update(id=""), "is not a name"),
        (lambda data: data["clips"][0].update(id="b"), "two clips have one id"),
    ],
)
def test_a_malformed_manifest_is_refused(saved: tuple[Corpus, Any], change: Any, message: str) -> None:
    edit(saved[0].path, change)
    with pytest.raises(VAError, match=f"corpus.json: .*{message}"):
        Corpus.load(saved[0].path)


def test_broken_or_missing_json_is_refused(saved: tuple[Corpus, Any], tmp_path: Path) -> None:
    saved[0].path.write_text(saved[0].path.read_text()[:-20])
    with pytest.raises(VAError, match=r"corpus.json: is not a corpus manifest"):
        Corpus.load(saved[0].path)
    with pytest.raises(VAError, match=r"corpus.json: cannot be read as a corpus manifest"):
        Corpus.load(tmp_path)


def test_labels_of_another_length_or_type_are_refused(saved: tuple[Corpus, Any]) -> None:
    made, _ = saved
    clip = made.clips[-1]
    with pytest.raises(VAError, match=r"'time_s' does not have the 6 frames of 'Åsa'"):
        made.truth(dataclasses.replace(clip, num_frames=6))
    sidecar = made.path.parent / "labels" / "%C3%85sa.npz"
    good = made.truth(clip)
    np.savez(sidecar, time_s=good.time_s.astype(np.float32), va=good.va, valid=good.valid)
    with pytest.raises(VAError, match="'time_s' does not have"):
        made.truth(clip)
    np.savez(sidecar, time_s=good.time_s, va=good.va)
    with pytest.raises(VAError, match="cannot be read as labels of clip 'Åsa'"):
        made.truth(clip)
    sidecar.unlink()
    with pytest.raises(VAError, match="cannot be read as labels of clip 'Åsa'"):
        made.truth(clip)


def test_a_pickle_in_a_sidecar_is_refused(saved: tuple[Corpus, Any]) -> None:
    made, _ = saved
    clip = made.clips[-1]
    np.savez(made.path.parent / "labels" / "%C3%85sa.npz", time_s=np.array([{}], dtype=object))
    with pytest.raises(VAError, match="cannot be read as labels"):
        made.truth(clip)


def test_no_wrong_byte_of_a_sidecar_changes_a_label_unnoticed(saved: tuple[Corpus, Any]) -> None:
    made, _ = saved
    clip = made.clips[-1]
    sidecar = made.path.parent / "labels" / "%C3%85sa.npz"
    whole, good = sidecar.read_bytes(), made.truth(clip)
    refused = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        sidecar.write_bytes(damaged)
        try:
            found = made.truth(clip)
        except VAError:
            refused += 1
        else:
            for field in dataclasses.fields(Truth):
                expected, array = getattr(good, field.name), getattr(found, field.name)
                assert array.dtype == expected.dtype and array.tobytes() == expected.tobytes(), position
    assert refused > len(whole) // 3  # most bytes matter, so the loop did damage something


def test_the_digest_depends_on_everything_that_training_sees(tmp_path: Path) -> None:
    root = tmp_path / "media"
    counter = iter(range(100))

    def digest(**changes: Any) -> str:
        clip, truth = entry(root, "a")
        clip = dataclasses.replace(clip, **{key: value for key, value in changes.items() if hasattr(clip, key)})
        truth = dataclasses.replace(truth, **{key: value for key, value in changes.items() if hasattr(truth, key)})
        out = tmp_path / f"out{next(counter)}"
        return corpus.save(
            out, name="x", synthetic=False, media_root=root, entries=[(clip, truth), entry(root, "z")]
        ).digest()

    truth = entry(root, "a")[1]
    same = digest()
    assert same == digest() and len(same) == 16
    others = [
        digest(id="b"),
        digest(split="val"),
        digest(identity="someone else"),
        digest(duration_s=1.0),
        digest(time_s=truth.time_s + 1e-9),
        digest(va=-truth.va),
        digest(valid=~truth.valid),
    ]
    assert len({same, *others}) == 8
    assert digest(media=root / "elsewhere.mp4") == same  # features carry the medium's hash


# --- dev


def clips_of(*identities: str) -> list[Clip]:
    return [entry(Path("/media"), f"{name}-{part}", identity=name)[0] for name in identities for part in range(2)]


PEOPLE = [f"person{number:03}" for number in range(40)]


def test_dev_by_hand() -> None:
    ranked = sorted(PEOPLE, key=lambda name: hashlib.sha256(f"3:{name}".encode()).digest())
    assert dev_identities(clips_of(*PEOPLE), fraction=0.15, seed=3) == frozenset(ranked[:6])


def test_dev_depends_on_names_and_seed_alone() -> None:
    chosen = dev_identities(clips_of(*PEOPLE), fraction=0.15, seed=0)
    assert chosen == dev_identities(clips_of(*reversed(PEOPLE)) + clips_of(PEOPLE[0]), fraction=0.15, seed=0)
    assert chosen != dev_identities(clips_of(*PEOPLE), fraction=0.15, seed=1)
    assert len(chosen) == 6 and chosen < set(PEOPLE)


def test_dev_is_stable_when_people_are_added() -> None:
    before = dev_identities(clips_of(*PEOPLE), fraction=0.5, seed=0)
    after = dev_identities(clips_of(*PEOPLE, "newcomer"), fraction=0.5, seed=0)
    # 20 of 40 and 20 of 41: a newcomer may take a place, but never reshuffles the others.
    assert len(before) == len(after) == 20
    assert after - {"newcomer"} <= before


@pytest.mark.parametrize(("people", "fraction", "expected"), [(2, 0.15, 1), (3, 0.01, 1), (20, 0.15, 3), (7, 0.3, 2)])
def test_dev_has_at_least_one_person(people: int, fraction: float, expected: int) -> None:
    assert len(dev_identities(clips_of(*PEOPLE[:people]), fraction=fraction, seed=0)) == expected


@pytest.mark.parametrize("people", [0, 1])
def test_dev_needs_two_people(people: int) -> None:
    with pytest.raises(VAError, match=f"the training split has {people} identity"):
        dev_identities(clips_of(*PEOPLE[:people]), fraction=0.15, seed=0)


def test_dev_leaves_someone_to_train_on() -> None:
    assert len(dev_identities(clips_of("a", "b"), fraction=0.9, seed=0)) == 1
