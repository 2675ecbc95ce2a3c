"""The synthetic corpus: the same seed gives the same corpus, its truth is there, and no triviality finds it."""

import csv
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from va.data import synthetic
from va.data.synthetic import affect, clip, face, write
from va.errors import VAError
from va.evaluate.metrics import ccc

CLIPS, SECONDS, SEED = 10, 3.0, 5


def make_spec(*, index: int, seconds: float = 2.0, seed: int = SEED, rate: Fraction | None = Fraction(25)):
    return clip.ClipSpec(seed=seed, index=index, identity=index // 2, seconds=seconds, rate=rate)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic")
    seen: list[tuple[int, int]] = []
    synthetic.write_tree(
        root, clips=CLIPS, seconds=SECONDS, seed=SEED, workers=1, progress=lambda done, all_: seen.append((done, all_))
    )
    assert seen == [(done, CLIPS) for done in range(CLIPS + 1)]
    return root


def annotations(root: Path) -> dict[str, Path]:
    return {path.stem: path for path in root.glob("annotations/VA_Estimation_Challenge/*_Set/*.txt")}


def media(root: Path) -> dict[str, Path]:
    return {path.stem: path for path in root.glob("batch*/*.mp4")}


def still(**changes: float) -> synthetic.FrameState:
    values = dict.fromkeys(synthetic.FrameState.__dataclass_fields__, 0.0)
    return synthetic.FrameState(**(values | {"zoom": 1.0, "light": 1.0, "cast": (1, 1, 1), "face": True} | changes))


def test_tree_has_every_clip_with_as_many_labels_as_frames(tree: Path) -> None:
    labels, videos = annotations(tree), media(tree)
    assert sorted(labels) == sorted(videos) == [f"synth_{i:04d}" for i in range(CLIPS)]
    assert {path.parent.name for path in videos.values()} == {"batch1", "batch2"}
    assert not [path for path in tree.rglob("*") if ".part" in path.name]
    for name, path in videos.items():
        lines = labels[name].read_text().splitlines()
        assert lines[0] == "valence,arousal"
        with av.open(str(path)) as container:
            video, sound = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, sound.codec_context.name) == ("h264", "aac")
            assert (video.width, video.height, sound.rate, sound.layout.name) == (128, 128, 44100, "mono")
            count = sum(1 for _ in container.decode(video))
        assert count == len(lines) - 1
        with av.open(str(path)) as container:
            samples = sum(frame.samples for frame in container.decode(audio=0))
        assert abs(samples / 44100 - SECONDS) < 0.05


def test_decoded_times_are_the_planned_ones_and_one_clip_is_variable(tree: Path) -> None:
    specs = write.plan_corpus(clips=CLIPS, seconds=SECONDS, seed=SEED)
    assert {spec.rate for spec in specs} == set(clip.FRAME_RATES)
    for spec in specs[:5]:
        with av.open(str(media(tree)[write.clip_name(spec)])) as container:
            decoded = np.array([frame.pts * frame.time_base for frame in container.decode(video=0)], dtype=float)
        planned = clip.frame_ticks(spec) / clip.TICKS_HZ
        np.testing.assert_allclose(decoded, planned, atol=1.5 / clip.TICKS_HZ)
        assert planned[0] == 0
        assert (np.diff(planned) > 0).all()
        irregular = np.ptp(np.diff(planned)) > 0.005
        assert irregular == (spec.rate is None)


def test_decoded_picture_is_the_drawn_one(tree: Path) -> None:
    spec = write.plan_corpus(clips=CLIPS, seconds=SECONDS, seed=SEED)[0]
    drawn = next(clip.render_frames(spec)).astype(float)
    with av.open(str(media(tree)[write.clip_name(spec)])) as container:
        decoded = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)
    assert np.abs(cv2.blur(drawn, (5, 5)) - cv2.blur(decoded, (5, 5))).mean() < 6


def test_no_identity_is_in_both_sets(tree: Path) -> None:
    with (tree / "identities.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == sorted(annotations(tree))
    people: dict[str, set[str]] = {"Train_Set": set(), "Validation_Set": set()}
    for row in rows:
        people[annotations(tree)[row["name"]].parent.name].add(row["identity"])
    assert not people["Train_Set"] & people["Validation_Set"]
    assert (len(people["Train_Set"]), len(people["Validation_Set"])) == (4, 1)


@pytest.mark.parametrize("clips", [2, 3, 5, 30])
def test_both_sets_have_someone_and_a_third_validates(clips: int) -> None:
    specs = write.plan_corpus(clips=clips, seconds=2, seed=0)
    people = {spec.identity for spec in specs}
    held_out = {spec.identity for spec in specs if write.is_validation(spec, identities=len(people))}
    assert 0 < len(held_out) < len(people)
    if clips == 30:
        assert (len(people), len(held_out)) == (15, 5)


def test_same_seed_same_corpus_whatever_the_workers(tree: Path, tmp_path: Path) -> None:
    synthetic.write_tree(tmp_path, clips=CLIPS, seconds=SECONDS, seed=SEED, workers=2, progress=lambda done, all_: None)
    files = sorted(path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    for file in files:
        assert (tree / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_pixels_sound_and_labels_repeat_and_depend_on_seed_and_index() -> None:
    spec = make_spec(index=0, seconds=1.0)
    frames = np.stack(list(clip.render_frames(spec)))
    assert frames.shape == (25, 128, 128, 3)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, np.stack(list(clip.render_frames(make_spec(index=0, seconds=1.0)))))
    sound = clip.render_sound(spec, rate_hz=16000)
    np.testing.assert_array_equal(sound, clip.render_sound(spec, rate_hz=16000))
    for other in (make_spec(index=1, seconds=1.0), make_spec(index=0, seconds=1.0, seed=SEED + 1)):
        assert (next(clip.render_frames(other)) != frames[0]).any()
        assert (clip.render_sound(other, rate_hz=16000) != sound).any()
        assert (clip.frame_labels(other) != clip.frame_labels(spec)).any()


def test_encoder_stream_never_meets_a_corpus() -> None:
    assert synthetic.ENCODER_STREAM != affect.CORPUS_STREAM
    draws = {
        tuple(affect.generator(stream=stream, seed=seed, keys=(kind, index)).integers(2**63, size=2))
        for stream in (affect.CORPUS_STREAM, synthetic.ENCODER_STREAM)
        for seed in (0, 1, 2026)
        for kind in range(7)
        for index in range(20)
    }
    assert len(draws) == 2 * 3 * 7 * 20


def test_a_corpus_clip_draws_from_the_corpus_stream_only(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = set()

    def watched(*, stream: int, seed: int, keys: tuple[int, ...]) -> np.random.Generator:
        streams.add(stream)
        return affect.generator(stream=stream, seed=seed, keys=keys)

    monkeypatch.setattr(clip, "generator", watched)
    spec = make_spec(index=0, seconds=1.0, rate=None)
    next(clip.render_frames(spec))
    clip.render_sound(spec, rate_hz=16000)
    clip.frame_labels(spec)
    assert streams == {affect.CORPUS_STREAM}


def test_labels_cover_the_square_and_some_are_missing() -> None:
    labels = np.concatenate([clip.frame_labels(make_spec(index=i, seconds=20.0)) for i in range(60)])
    missing = labels[:, 0] == -5
    np.testing.assert_array_equal(missing, labels[:, 1] == -5)
    assert 0.01 < missing.mean() < 0.04
    valid = labels[~missing]
    assert np.abs(valid).max() <= 1
    np.testing.assert_array_equal(valid, np.round(valid, 3))
    counts, _, _ = np.histogram2d(valid[:, 0], valid[:, 1], bins=3, range=[[-1, 1], [-1, 1]])
    assert (counts / len(valid) > 0.05).all()
    assert abs(np.corrcoef(valid.T)[0, 1]) < 0.2


def test_faces_and_voices_are_missing_for_a_while() -> None:
    specs = [make_spec(index=i, seconds=20.0) for i in range(60)]
    time_s = np.arange(400) / 20
    absent = [~affect.inside(time_s, spec.scene.absent) for spec in specs]
    assert 0.01 < 1 - np.mean(absent) < 0.05
    spec = specs[0]
    flat = synthetic.draw_frame(
        spec.person, valence=0, arousal=0, state=still(face=False), size=128, rng=np.random.default_rng(0)
    )
    drawn = synthetic.draw_frame(
        spec.person, valence=0, arousal=0, state=still(), size=128, rng=np.random.default_rng(0)
    )
    assert (flat != drawn).any(axis=2).mean() > 0.3


def test_mouth_corners_rise_with_valence_in_curve_and_picture() -> None:
    person = synthetic.sample_person(np.random.default_rng(3))
    lift, rows = [], []
    neutral = synthetic.draw_frame(person, valence=0, arousal=0, state=still(), size=128, rng=np.random.default_rng(0))
    for valence in (-1.0, -0.5, 0.5, 1.0):
        upper, _ = face.mouth_curves(person.face, valence=valence, talk=0.0)
        lift.append(upper[4, 1] - upper[0, 1])
        drawn = synthetic.draw_frame(
            person, valence=valence, arousal=0, state=still(), size=128, rng=np.random.default_rng(0)
        )
        rows.append(np.abs(drawn.astype(int) - neutral).sum())
    assert (np.diff(lift) > 0.05).all()
    assert rows[0] > rows[1] > 0
    assert rows[3] > rows[2] > 0


def voice_statistics(arousal: float) -> tuple[float, float]:
    """Loudness in dB and the share of power above 1.5 kHz in dB, averaged over voices."""
    loudness, brightness = [], []
    for seed in range(20):  # microphone gain and pauses differ from voice to voice
        rng = np.random.default_rng(seed)
        wave = synthetic.synthesise_voice(
            synthetic.sample_person(rng),
            affect=np.tile([0.0, arousal], (60, 1)),
            affect_rate_hz=10.0,
            silences=np.zeros((0, 2)),
            seconds=5.0,
            rate_hz=16000,
            rng=rng,
        )
        power = np.abs(np.fft.rfft(wave)) ** 2
        frequency = np.fft.rfftfreq(len(wave), 1 / 16000)
        band = [power[(frequency > low) & (frequency < high)].sum() for low, high in ((100, 1500), (1500, 7500))]
        loudness.append(10 * np.log10(np.mean(wave**2)))
        brightness.append(10 * np.log10(band[1] / band[0]))
    return float(np.mean(loudness)), float(np.mean(brightness))


def test_arousal_brightens_a_voice_without_making_it_louder() -> None:
    quiet, dull = voice_statistics(-1.0)
    excited, bright = voice_statistics(1.0)
    assert bright - dull > 5
    assert abs(excited - quiet) < 1.5


def test_silence_is_silent_and_shapes_are_right() -> None:
    rng = np.random.default_rng(1)
    options = {"affect": np.zeros((30, 2)), "affect_rate_hz": 10.0, "seconds": 2.5, "rate_hz": 16000}
    wave = synthetic.synthesise_voice(synthetic.sample_person(rng), silences=np.array([[0.5, 2.0]]), rng=rng, **options)
    assert wave.shape == (40000,)
    assert wave.dtype == np.float32
    assert np.abs(wave).max() < 1
    inner, outer = wave[12000:28000], np.concatenate([wave[:6000], wave[34000:]])
    assert inner.std() < 0.5 * outer.std()
    with pytest.raises(ValueError, match="multiple of 100"):
        synthetic.synthesise_voice(
            synthetic.sample_person(rng), silences=np.zeros((0, 2)), rng=rng, **(options | {"rate_hz": 16050})
        )


def test_smooth_is_about_standard_normal_and_band_limited() -> None:
    time_s = np.arange(0, 4000, 0.5)
    process = affect.smooth(np.random.default_rng(0), shortest_s=5.0, longest_s=40.0)
    values = process(time_s)
    assert abs(values.mean()) < 0.05
    assert values.std() == pytest.approx(1, abs=0.05)
    power = np.abs(np.fft.rfft(values * np.hanning(len(values)))) ** 2
    frequency = np.fft.rfftfreq(len(values), 0.5)
    assert power[(frequency > 1 / 45) & (frequency < 1 / 4.5)].sum() > 0.999 * power.sum()


def test_pixels_and_loudness_alone_do_not_give_it_away() -> None:
    """Ridge on 16 x 16 grey pixels and loudness per cell, scored on people it was not fitted on."""
    inputs, targets, people = [], [], []
    centre_s = 0.25 + 0.5 * np.arange(20)
    for index in range(60):
        spec = make_spec(index=index, seconds=10.0)
        values, scene, rng = spec.affect(centre_s), spec.scene, np.random.default_rng(index)
        states = scene.states(time_s=centre_s, blink_arousal=spec.affect(scene.blink_s)[:, 1])
        power = np.square(clip.render_sound(spec, rate_hz=16000)).reshape(20, 8000).mean(axis=1)
        for (valence, arousal), state, level in zip(values, states, 10 * np.log10(power + 1e-9), strict=True):
            drawn = synthetic.draw_frame(spec.person, valence=valence, arousal=arousal, state=state, size=128, rng=rng)
            grey = cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY)
            pixels = cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA).ravel()
            inputs.append(np.append(pixels / 64, [level / 8, 1]))
            targets.append((valence, arousal))
            people.append(spec.identity)
    x, y = np.array(inputs), np.array(targets)
    fitted = np.array(people) < 20
    for penalty in (1.0, 30.0, 1000.0):
        weights = np.linalg.solve(x[fitted].T @ x[fitted] + penalty * np.eye(x.shape[1]), x[fitted].T @ y[fitted])
        guess = x[~fitted] @ weights
        assert np.mean([ccc(guess[:, k], y[~fitted][:, k]) for k in range(2)]) < 0.3


@pytest.mark.parametrize(
    "wrong", [{"clips": 1}, {"seconds": 0.5}, {"seed": -1}, {"workers": 0}], ids=["clips", "seconds", "seed", "workers"]
)
def test_impossible_wishes_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    options = {"clips": 4, "seconds": 2.0, "seed": 0, "workers": 1} | wrong
    with pytest.raises(VAError, match="cannot"):
        synthetic.write_tree(tmp_path / "none", progress=lambda done, all_: None, **options)
    assert not (tmp_path / "none").exists()


def test_a_style_changes_what_is_seen_and_heard_and_nothing_else() -> None:
    plain = make_spec(index=3)
    chalk = replace(plain, style="chalk")
    assert plain.style == "cartoon"
    np.testing.assert_array_equal(clip.frame_labels(chalk), clip.frame_labels(plain))
    np.testing.assert_array_equal(clip.frame_ticks(chalk), clip.frame_ticks(plain))
    assert chalk.person == plain.person
    drawn, shown = (np.stack(list(clip.render_frames(each))).astype(float) for each in (chalk, plain))
    assert drawn.mean() < 0.6 * shown.mean(), "bright lines on a dark board"
    heard, other = (clip.render_sound(each, rate_hz=16_000) for each in (chalk, plain))
    assert heard.shape == other.shape and np.abs(heard).max() > 0.01
    spectra = [np.abs(np.fft.rfft(each)) for each in (heard, other)]
    low, high = slice(100, 2000), slice(2000, 14_000)  # bins of 0.5 Hz
    shares = [spectrum[high].sum() / spectrum[low].sum() for spectrum in spectra]
    assert shares[0] > 1.5 * shares[1], "a breathy, bright voice"


def test_chalk_shows_valence_in_outlines_that_hide_what_is_behind() -> None:
    person = make_spec(index=0).person
    draw = partial(face.draw_frame, person, arousal=0.0, state=still(), size=128, style="chalk")
    pictures = {v: draw(valence=v, rng=np.random.default_rng(0)).astype(float) for v in (-1.0, 1.0)}
    changed = np.abs(pictures[1.0] - pictures[-1.0]).max(axis=2) > 60
    rows = np.flatnonzero(changed.any(axis=1))
    assert changed.sum() > 50 and rows.min() > 30, "mouth, cheeks and brows, not hair and shirt"
    board = draw(valence=0.0, rng=np.random.default_rng(0), state=still(face=False)).astype(float)
    bright = draw(valence=0.0, rng=np.random.default_rng(0)).astype(float).max(axis=2) > board.max() + 20
    assert 0.01 < bright.mean() < 0.2, "lines, not areas"
