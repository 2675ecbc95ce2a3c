"""Our AST against transformers' extractor and model run by hand on one window, with pooling written as loops."""

import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel
from transformers.models.audio_spectrogram_transformer import feature_extraction_audio_spectrogram_transformer

from va import weights
from va.errors import VAError
from va.extract import ast, spectrum
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder

CPU = torch.device("cpu")
RATE_HZ = 16_000
BANDS, TOKENS = 12, 101


@pytest.fixture(autouse=True)
def numpy_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make transformers' extractor ignore torchaudio, wherever that package is installed."""
    monkeypatch.setattr(feature_extraction_audio_spectrogram_transformer, "is_speech_available", lambda: False)


def config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"), **changes)


def tiny_config(**changes: Any) -> ASTConfig:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return ASTConfig(**(sizes | changes))


def randomise(model: Any, *, seed: int = 0) -> Any:
    """Leave no parameter at 0 or 1, so that a wrong one shows."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        parameter.add_(torch.randn_like(parameter) * (0.2 if parameter.ndim < 2 else 0.05))
    return model.eval()


def random_model(*, seed: int = 0, **changes: Any) -> ASTModel:
    return randomise(ASTModel(tiny_config(**changes)), seed=seed)


def wrap(model: Any, **changes: Any) -> Encoder:
    return ast.from_model(model, name="ast", weights_digest="w", normalisation=ast.AUDIOSET, config=config(**changes))


def noise(seconds: float, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE_HZ)
    return (rng.normal(size=samples) * 0.2 * (1.1 + np.sin(np.arange(samples) / 9000))).clip(-1, 1).astype(np.float32)


def encode(encoder: Encoder, *windows: np.ndarray) -> np.ndarray:
    inputs = torch.from_numpy(np.stack([encoder.transform(rows) for rows in windows]))
    return encoder.encode(inputs, torch.tensor([len(rows) for rows in windows])).numpy()


def by_hand(model: ASTModel, wave: np.ndarray, *, steps: int, **extractor: Any) -> np.ndarray:
    """Encode one window as transformers would, and pool its tokens in plain loops.

    Tokens lie frequency by frequency: token 101 f + t of the published shape, after two that stand for the whole.
    """
    shape = model.config
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extract = ASTFeatureExtractor(**{"max_length": shape.max_length} | extractor)
        inputs = extract(wave, sampling_rate=RATE_HZ, return_tensors="pt")["input_values"]
    hidden = model(inputs).last_hidden_state[0].numpy().astype(np.float64)
    patch, stride = shape.patch_size, shape.time_stride
    bands = len(range(0, 128 - patch + 1, shape.frequency_stride))
    tokens = len(range(0, shape.max_length - patch + 1, stride))
    assert len(hidden) == 2 + bands * tokens
    rows = 1 + (len(wave) - 400) // 160
    cells = np.zeros((steps, hidden.shape[1]))
    for cell in range(steps):
        members = []
        for time in range(tokens):
            ends_in_sound = stride * time + patch <= rows
            # In hundredths of a second, whole numbers: a centre on a cell's edge belongs to the later cell.
            if ends_in_sound and 100 * cell <= 2 * stride * time + patch < 100 * (cell + 1):
                members.append(sum(hidden[2 + tokens * band + time] for band in range(bands)) / bands)
        if members:
            cells[cell] = sum(members) / len(members)
    return cells


@pytest.mark.parametrize("start_s", [0, 3, 6])
def test_a_window_cut_from_a_clip_equals_transformers_on_it_alone(start_s: int) -> None:
    model, wave = random_model(), noise(16.0)
    encoder = wrap(model)
    assert encoder.spectrum is not None
    blocks = spectrum.row_blocks(iter(np.array_split(wave, 23)), encoder.spectrum)
    cut = list(spectrum.windows(blocks, starts_s=np.array([0.0, 3.0, 6.0]), window_s=10.0))
    found = encode(encoder, *cut)[start_s // 3]
    expected = by_hand(model, wave[start_s * RATE_HZ : (start_s + 10) * RATE_HZ], steps=20)
    assert found.shape == (20, 32) and found.dtype == np.float32
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("seconds", "steps"), [(0.6, 20), (3.21, 20), (9.3, 20), (2.0, 4), (4.0, 8)])
def test_short_sound_and_short_windows_equal_transformers(seconds: float, steps: int) -> None:
    model, wave = random_model(), noise(seconds)
    encoder = wrap(model, window_s=steps / 2, stride_s=0.5)
    rows = spectrum.log_mel(wave)
    found, expected = encode(encoder, rows)[0], by_hand(model, wave, steps=steps)
    assert encoder.valid_steps is not None
    valid = encoder.valid_steps(len(rows))
    assert valid.tolist() == expected.any(axis=1).tolist() and valid.any()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not found[~valid].any()


@pytest.mark.parametrize(
    "shape",
    [
        {"time_stride": 16, "frequency_stride": 16},
        {"patch_size": 8, "time_stride": 5, "frequency_stride": 7},
        {"patch_size": 12, "time_stride": 12, "frequency_stride": 4, "max_length": 333},
        {"time_stride": 64, "max_length": 400},
    ],
    ids=str,
)
def test_any_checkpoint_in_a_folder(tmp_path: Path, shape: dict[str, int]) -> None:
    """Other strides, patches and lengths, through --ast-weights; a stride above a cell leaves cells without a token."""
    model, wave = random_model(**shape), noise(3.0)
    encoder = build(save(model, tmp_path), window_s=3.0, stride_s=1.0)
    rows = spectrum.log_mel(wave)
    found, expected = encode(encoder, rows)[0], by_hand(model, wave, steps=6)
    assert found.shape == (6, 32) and expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert encoder.valid_steps is not None
    assert encoder.valid_steps(len(rows)).tolist() == expected.any(axis=1).tolist()


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_a_checkpoint_of_other_sounds_brings_their_mean_and_std(tmp_path: Path) -> None:
    """As those for speech commands do, whose input is 128 rows long."""
    model, wave = random_model(max_length=128), noise(1.0)
    own = {"mean": -6.845978, "std": 5.5654526}
    save(model, tmp_path)
    plain = build(tmp_path, window_s=1.0, stride_s=0.5)
    ASTFeatureExtractor(**own, max_length=128).save_pretrained(tmp_path)
    encoder = build(tmp_path, window_s=1.0, stride_s=0.5)
    rows = spectrum.log_mel(wave)
    expected = by_hand(model, wave, steps=2, **own)
    np.testing.assert_allclose(encode(encoder, rows)[0], expected, atol=1e-5)
    assert np.abs(encode(plain, rows)[0] - expected).max() > 1e-2
    assert {key: encoder.identity["preprocessing"][key] for key in own} == own
    assert encoder.identity != plain.identity


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_the_published_settings_file_changes_nothing(tmp_path: Path) -> None:
    save(random_model(), tmp_path)
    without = build(tmp_path).identity
    ASTFeatureExtractor().save_pretrained(tmp_path)
    assert build(tmp_path).identity == without


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_a_checkpoint_without_normalisation(tmp_path: Path) -> None:
    model, wave = random_model(max_length=128), noise(1.0)
    ASTFeatureExtractor(do_normalize=False, max_length=128).save_pretrained(save(model, tmp_path))
    encoder = build(tmp_path, window_s=1.0, stride_s=0.5)
    rows = spectrum.log_mel(wave)
    np.testing.assert_array_equal(encoder.transform(rows)[: len(rows)], rows)
    np.testing.assert_allclose(encode(encoder, rows)[0], by_hand(model, wave, steps=2, do_normalize=False), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"sampling_rate": 8000}', r"preprocessor_config.json: asks for 8000 Hz, 128 mel bins"),
        ('{"num_mel_bins": 64}', r"preprocessor_config.json: asks for 16000 Hz, 64 mel bins"),
        ('{"std": 0}', r"preprocessor_config.json: asks for .* a std of 0"),
        ('{"mean": "loud"}', r"preprocessor_config.json: cannot be read"),
        ("[]", r"preprocessor_config.json: cannot be read"),
        ("{", r"preprocessor_config.json: cannot be read"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, settings: str, message: str) -> None:
    (save(random_model(), tmp_path) / "preprocessor_config.json").write_text(settings)
    with pytest.raises(VAError, match=message):
        build(tmp_path)


def test_another_number_of_mel_bins_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VAError, match="'ast' takes 64 mel bins, not 128"):
        build(save(random_model(num_mel_bins=64), tmp_path))


def test_a_window_does_not_depend_on_the_others_in_its_batch() -> None:
    encoder = wrap(random_model())
    first, second, third = (spectrum.log_mel(noise(seconds, seed=7)) for seconds in (10.0, 4.0, 7.3))
    left, right = encode(encoder, first, second, second), encode(encoder, third, second, first)
    assert left[1].tobytes() == right[1].tobytes()


# --- pooling


def weights_for(num_rows: int, *, steps: int = 20) -> np.ndarray:
    return ast.cell_weights(num_rows, steps=steps, input_rows=1024, patch=16, stride=10)


def test_pooling_of_a_whole_window() -> None:
    found = weights_for(998)
    assert found.shape == (20, 101) and found.dtype == np.float32
    # Token j is centred at 0.1 j + 0.08 s: five to a cell, and 99 and 100 see padding.
    for cell in range(20):
        members = list(range(5 * cell, 5 * cell + 5)) if cell < 19 else [95, 96, 97, 98]
        assert np.flatnonzero(found[cell]).tolist() == members
        np.testing.assert_allclose(found[cell, members], 1 / len(members), rtol=1e-6)


@pytest.mark.parametrize(
    ("num_rows", "last_token"), [(0, -1), (15, -1), (16, 0), (25, 0), (26, 1), (98, 8), (198, 18), (997, 98)]
)
def test_pooling_of_short_sound_leaves_out_tokens_that_touch_padding(num_rows: int, last_token: int) -> None:
    found = weights_for(num_rows)
    assert np.flatnonzero(found.any(axis=0)).tolist() == list(range(last_token + 1))
    sums = found.sum(axis=1)
    heard = -(-(last_token + 1) // 5)
    np.testing.assert_allclose(sums, [1.0] * heard + [0.0] * (20 - heard), rtol=1e-6)


def test_no_sound_is_all_invalid() -> None:
    encoder = wrap(random_model())
    assert encoder.valid_steps is not None
    assert not encoder.valid_steps(0).any()
    assert not encode(encoder, np.zeros((0, 128), np.float32)).any()


def test_steps_are_in_time_order_and_averaged_over_frequency() -> None:
    """A model whose tokens say where they are: [frequency, time]."""

    class Tokens:
        config = tiny_config(hidden_size=2)

        def __call__(self, inputs: torch.Tensor) -> Any:
            index = torch.arange(BANDS * TOKENS)
            where = torch.stack([index // TOKENS, index % TOKENS], dim=1).float()
            whole = torch.full((2, 2), 1e6)  # the tokens that must not be used
            return SimpleNamespace(last_hidden_state=torch.cat([whole, where]).expand(len(inputs), -1, -1))

    found = encode(wrap(Tokens()), np.zeros((998, 128), np.float32))[0]
    assert found[:, 0].tolist() == pytest.approx([5.5] * 20)
    assert found[:, 1].tolist() == pytest.approx([5 * cell + 2 for cell in range(19)] + [96.5])


def test_pooling_keeps_float32_under_autocast() -> None:
    """A model whose tokens differ by less than bfloat16 can tell apart."""

    class Fine:
        config = tiny_config(hidden_size=1)

        def __call__(self, inputs: torch.Tensor) -> Any:
            hidden = 1 + torch.arange(2 + BANDS * TOKENS)[None, :, None] * 1e-5
            return SimpleNamespace(last_hidden_state=hidden.expand(len(inputs), -1, -1))

    encoder, rows = wrap(Fine()), np.zeros((998, 128), np.float32)
    expected = encode(encoder, rows)
    assert len(np.unique(expected)) == 20
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(encode(encoder, rows), expected)


@pytest.mark.parametrize("second", [0, 4, 9])
def test_sound_of_one_second_reaches_the_cells_of_that_second(second: int) -> None:
    """Without attention layers a token sees its own patch only."""
    encoder = wrap(random_model(num_hidden_layers=0))
    before = spectrum.log_mel(noise(10.0))
    after = before.copy()
    after[second * 100 : (second + 1) * 100] += 1
    change = np.abs(encode(encoder, after) - encode(encoder, before))[0].max(axis=1)
    # A token reaches 80 ms beyond its centre, hence into the cell before and after by one token of five.
    inside = {2 * second, 2 * second + 1}
    touched = inside | ({2 * second - 1, 2 * second + 2} & set(range(20)))
    assert set(np.flatnonzero(change).tolist()) <= touched
    assert change[sorted(inside)].min() > 1e-2


# --- identity and limits


def test_the_identity_depends_on_weights_window_and_stride() -> None:
    model = random_model()
    identities = [
        ast.from_model(
            model, name="ast", weights_digest=digest, normalisation=ast.AUDIOSET, config=config(**changes)
        ).identity
        for digest, changes in (
            ("w", {}),
            ("w", {"audio_batch": 9, "device": "cpu"}),
            ("v", {}),
            ("w", {"window_s": 8.0}),
            ("w", {"stride_s": 2.0}),
        )
    ]
    assert identities[0] == identities[1]
    texts = {json.dumps(identity, sort_keys=True) for identity in identities}
    assert len(texts) == 4
    assert identities[0]["sampling"] == {"cell_s": 0.5, "window_s": 10.0, "stride_s": 3.0}


def test_a_window_longer_than_the_model_is_refused() -> None:
    assert wrap(random_model(), window_s=10.0).dim == 32
    with pytest.raises(VAError, match=r"--window-s: 10.5 s does not fit the 1024 rows"):
        wrap(random_model(), window_s=10.5)


# --- loading


def save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def build(folder: Path, **changes: Any) -> Encoder:
    return ast.build("ast", config=config(ast_weights=folder, **changes), device=CPU)


@pytest.mark.parametrize("classifier", [False, True], ids=["bare model", "with the classifier of the published file"])
def test_a_local_folder_is_loaded(tmp_path: Path, classifier: bool) -> None:
    if classifier:
        whole = randomise(ASTForAudioClassification(tiny_config(num_labels=7)))
        model = whole.audio_spectrogram_transformer
        save(whole, tmp_path)
    else:
        model = random_model()
        save(model, tmp_path)
    rows = spectrum.log_mel(noise(10.0))
    expected = encode(wrap(model), rows)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        np.testing.assert_array_equal(encode(build(path), rows), expected)


def test_a_missing_weight_is_an_error_and_no_warning(tmp_path: Path) -> None:
    save(random_model(), tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    removed = next(name for name in state if name.endswith("q_proj.weight") or name.endswith("query.weight"))
    del state[removed]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(VAError, match=r"1 weights of the AST are missing from model.safetensors"):
        build(tmp_path)


def test_weights_of_another_size_or_no_weights_are_refused(tmp_path: Path) -> None:
    save(random_model(), tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"intermediate_size": 48}))
    with pytest.raises(VAError, match=r"is not an AST checkpoint|weights of the AST are missing"):
        build(tmp_path)
    (tmp_path / "model.safetensors").write_text("no tensors")
    with pytest.raises(VAError, match="is not an AST checkpoint"):
        build(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused(tmp_path: Path, name: str) -> None:
    save(random_model(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(VAError, match=rf"--ast-weights: .*{name} does not exist"):
        build(tmp_path)


def test_a_file_of_another_name_is_not_silently_replaced(tmp_path: Path) -> None:
    """transformers loads by folder: it would take model.safetensors, not the file that was named."""
    save(random_model(), tmp_path)
    (tmp_path / "mine.safetensors").touch()
    with pytest.raises(VAError, match=r"--ast-weights: .*mine.safetensors is not named model.safetensors"):
        build(tmp_path / "mine.safetensors")


def test_the_demo_encoder_is_read_from_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = random_model()
    save(model, tmp_path / "tiny-ast")
    monkeypatch.setattr(weights, "DEMO", tmp_path)
    encoder = ast.build("tiny-ast", config=config(), device=CPU)
    assert encoder.identity["demo"] is True and encoder.identity["encoder"] == "tiny-ast"
    rows = spectrum.log_mel(noise(10.0))
    np.testing.assert_array_equal(encode(encoder, rows), encode(wrap(model), rows))


@pytest.mark.slow
def test_the_full_size_from_a_folder(tmp_path: Path) -> None:
    model = randomise(ASTModel(ASTConfig()))
    encoder = build(save(model, tmp_path))
    assert encoder.dim == 768
    wave = noise(10.0)
    found = encode(encoder, spectrum.log_mel(wave))[0]
    np.testing.assert_allclose(found, by_hand(model, wave, steps=20), atol=1e-4)
    shutil.rmtree(tmp_path)  # pytest would keep it
