"""What extraction stores for a window equals that window done by hand: its frames, its log-mel, the models' outputs.

The oracle uses PyAV, transformers and open_clip directly, and none of our decoding, slicing or pooling.
"""

import json
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import open_clip
import pytest
import torch
from av.audio.resampler import AudioResampler
from PIL import Image
from safetensors.torch import load_file
from support import make_video, read_number
from transformers import ASTFeatureExtractor, ASTModel
from transformers.models.audio_spectrogram_transformer import feature_extraction_audio_spectrogram_transformer

from va import weights
from va.data import corpus, features
from va.data.corpus import Clip, Truth
from va.data.features import ClipFeatures
from va.extract import pipeline, spectrum
from va.extract.config import ExtractConfig

SECONDS = 14.2
WINDOWS = 3
"""29 cells, windows of 20 with a stride of 6: they start at 0, 3 and 6 s, and the last is padded."""


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("media") / "a.mp4"
    sound = rng.normal(0, 0.1, round(SECONDS * 16_000)).astype(np.float32)
    make_video(path, rate=Fraction(30000, 1001), seconds=SECONDS, audio=sound, audio_rate=16_000, audio_codec="flac")
    return path


@pytest.fixture(scope="module")
def stored(medium: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ClipFeatures]:
    root = tmp_path_factory.mktemp("corpus")
    clip = Clip(id="a", media=medium, split="train", identity="a", num_frames=1, duration_s=SECONDS)
    truth = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.ones(1, np.bool_))
    made = corpus.save(root, name="x", synthetic=True, media_root=medium.parent, entries=[(clip, truth)])
    config = ExtractConfig(corpus=made.path, out=root / "f", encoders=("tiny-clip", "tiny-ast"), device="cpu")
    assert pipeline.run(config, progress=lambda *_: None).written == 1
    return {store.encoder: store.read("a") for store in features.open_stores(root / "f")}


def pictures_by_hand(medium: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    with av.open(str(medium)) as container:
        shown = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return np.array([time for time, _ in shown]), [rgb for _, rgb in shown]


def sound_by_hand(medium: Path) -> np.ndarray:
    resampler = AudioResampler(format="flt", layout="mono", rate=16_000)
    with av.open(str(medium)) as container:
        parts = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate([part.to_ndarray()[0] for part in [*parts, *resampler.resample(None)]])


@torch.no_grad()
@pytest.mark.parametrize("window", range(WINDOWS))
def test_pictures(medium: Path, stored: dict[str, ClipFeatures], window: int) -> None:
    found = stored["tiny-clip"]
    assert found.values.shape[0] == 29 and found.valid.all()
    times, pictures = pictures_by_hand(medium)
    folder = weights.DEMO / "tiny-clip"
    model = open_clip.CLIP(**json.loads((folder / "config.json").read_text()))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    size = model.visual.image_size
    resize = open_clip.image_transform(size[0] if isinstance(size, tuple) else size, is_train=False)
    centers = [3 * window + 0.25 + 0.5 * step for step in range(20) if 6 * window + step < 29]
    chosen = [int(np.flatnonzero(times <= center)[-1]) for center in centers]
    # Frame number i is drawn into frame i: at 29.97 frames per second the one before center x 30000 / 1001.
    numbers = [min(int(center * 30000 / 1001), len(pictures) - 1) for center in centers]
    assert [read_number(pictures[index]) for index in chosen] == numbers
    inputs = torch.stack([resize(Image.fromarray(pictures[index])) for index in chosen])
    expected = model.eval().encode_image(inputs).numpy()
    cells = found.values[6 * window : 6 * window + len(centers)].astype(np.float32)
    np.testing.assert_allclose(cells, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@torch.no_grad()
@pytest.mark.parametrize("window", range(WINDOWS))
def test_sound(medium: Path, stored: dict[str, ClipFeatures], window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_extraction_audio_spectrogram_transformer, "is_speech_available", lambda: False)
    found = stored["tiny-ast"]
    assert found.time_s.tolist() == [0.0, 3.0, 6.0]
    model = ASTModel.from_pretrained(weights.DEMO / "tiny-ast", dtype=torch.float32).eval()
    shape = model.config
    alone = sound_by_hand(medium)[3 * window * 16_000 :][:160_000]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extractor = ASTFeatureExtractor(max_length=shape.max_length)
        inputs = extractor(alone, sampling_rate=16_000, return_tensors="np")["input_values"]
    rows = spectrum.count_rows(len(alone))
    hidden = model(torch.from_numpy(inputs)).last_hidden_state[0, 2:].numpy()
    bands = (128 - shape.patch_size) // shape.frequency_stride + 1
    tokens = hidden.reshape(bands, -1, hidden.shape[1]).mean(axis=0)  # frequency-major (R5)
    for step in range(20):
        inside = [
            token
            for index, token in enumerate(tokens)
            if step <= (index * shape.time_stride + shape.patch_size / 2) / 100 / 0.5 < step + 1
            and index * shape.time_stride + shape.patch_size <= rows
        ]
        assert found.valid[window, step] == bool(inside)
        if inside:
            expected = np.mean(inside, axis=0)
            value = found.values[window, step].astype(np.float32)
            np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_the_log_mel_of_a_window_is_bit_equal_to_a_slice(medium: Path) -> None:
    sound = sound_by_hand(medium)
    whole = spectrum.log_mel(sound)
    for window in range(WINDOWS):
        alone = spectrum.log_mel(sound[3 * window * 16_000 :][:160_000])
        assert whole[300 * window :][: len(alone)].tobytes() == alone.tobytes()
