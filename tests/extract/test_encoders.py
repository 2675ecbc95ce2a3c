"""What `build` adds to every encoder: precision, compilation; and that a row does not depend on its batch."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from transformers import ASTConfig, ASTModel

from va.data.features import FeatureStore
from va.errors import VAError
from va.extract import encoders
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder

CPU = torch.device("cpu")
WEIGHTLESS = ("logmel", "pixels", "loudness")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"), **changes)


def build(name: str, **changes: Any) -> Encoder:
    return encoders.build(name, config=config(**changes), device=CPU)


def batch_of(encoder: Encoder, size: int, *, seed: int = 0) -> tuple[Tensor, ...]:
    """Different inputs that fill a batch, as `encode` takes them; windows of sound are of different lengths."""
    rng = np.random.default_rng(seed)
    if encoder.spectrum is None:
        pictures = [rng.integers(0, 256, (8, 10, 3), np.uint8).repeat(12, 0).repeat(12, 1) for _ in range(size)]
        return (torch.from_numpy(np.stack([encoder.transform(picture) for picture in pictures])),)
    sounds = [rng.normal(size=160_000 - 24_000 * (index % 4)) * 0.1 for index in range(size)]
    rows = [encoder.spectrum(sound.astype(np.float32)) for sound in sounds]
    inputs = torch.from_numpy(np.stack([encoder.transform(each) for each in rows]))
    return inputs, torch.tensor([len(each) for each in rows])


def small_ast(folder: Path) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ASTModel(ASTConfig(**sizes)).save_pretrained(folder)
    return folder


@torch.inference_mode()
def likeness(encoder: Encoder, reference: Encoder, inputs: tuple[Tensor, ...]) -> tuple[float, float]:
    """Give the least cosine between an encoder's rows and another's, and the greatest difference."""
    found, expected = encoder.encode(*inputs), reference.encode(*inputs)
    assert found.dtype == expected.dtype == torch.float32 and found.shape == expected.shape
    sounding = expected.abs().sum(dim=-1) > 0  # steps without sound are 0
    cosines = cosine_similarity(found[sounding], expected[sounding], dim=-1)
    return float(cosines.min()), float((found - expected).abs().max())


# --- precision


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["tiny-clip", "tiny-ast"])
def test_sixteen_bits_are_near_single_precision(tmp_path: Path, name: str, precision: str) -> None:
    plain, half = build(name), build(name, precision=precision)
    cosine, difference = likeness(half, plain, batch_of(plain, 4))
    assert cosine > 0.99
    assert difference > 0  # so that autocast is at work at all
    assert half.identity == {**plain.identity, "compute_dtype": precision}
    assert plain.identity["compute_dtype"] == "float32"
    folders = [FeatureStore.create(tmp_path, encoder.identity).directory for encoder in (plain, half)]
    assert folders[0] != folders[1]


def test_prototypes_are_computed_in_single_precision() -> None:
    plain, half = build("tiny-clip"), build("tiny-clip", precision="bfloat16")
    assert plain.prototypes is not None and half.prototypes is not None
    texts = (["happy", "sad"], ["a {} face"])
    np.testing.assert_array_equal(half.prototypes(*texts), plain.prototypes(*texts))


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_encoders_without_weights_take_no_part(name: str) -> None:
    plain, asked = build(name), build(name, precision="bfloat16", compile=True)
    assert asked.identity == plain.identity
    assert likeness(asked, plain, batch_of(plain, 2))[1] == 0


def test_a_device_that_lacks_a_precision_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("Current CUDA Device does not support bfloat16.")

    monkeypatch.setattr(torch, "autocast", refuse)
    with pytest.raises(VAError, match=r"--precision bfloat16: cpu cannot compute in it \(Current CUDA") as caught:
        build("tiny-clip", precision="bfloat16")
    assert caught.value.hint == "Use float32."


def test_tokens_are_averaged_in_single_precision_under_autocast() -> None:
    rng = np.random.default_rng(0)
    tokens, weights = rng.normal(size=(2, 7, 5)).astype(np.float32), rng.random((2, 3, 7)).astype(np.float32)
    expected = np.einsum("bst,btd->bsd", weights.astype(np.float64), tokens.astype(np.float64))
    with torch.autocast("cpu", torch.bfloat16):
        found = encoders.average_tokens(torch.from_numpy(tokens), weights)
        of_half = encoders.average_tokens(torch.from_numpy(tokens).bfloat16(), weights)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert of_half.dtype == torch.float32


# --- compilation


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-ast"])
def test_a_tower_is_compiled_as_one_graph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's own kernels in place of generated ones, which take a minute to make."""
    original = nn.Module.compile

    def quickly(self: nn.Module, **options: Any) -> None:
        original(self, backend="aot_eager", fullgraph=True, **options)

    monkeypatch.setattr(nn.Module, "compile", quickly)
    torch._dynamo.utils.counters.clear()
    plain, compiled = build(name), build(name, compile=True, frame_batch=4, audio_batch=2)
    cosine, difference = likeness(compiled, plain, batch_of(plain, 4 if name == "tiny-clip" else 2))
    assert cosine > 0.999999 and difference < 1e-4
    assert compiled.identity == {**plain.identity, "compiled": True}
    assert "compiled" not in plain.identity
    stats = torch._dynamo.utils.counters["stats"]
    assert stats["unique_graphs"] == 1
    with torch.no_grad():
        compiled.encode(*batch_of(plain, 4 if name == "tiny-clip" else 2))
    assert stats["unique_graphs"] == 1  # another mode does not start a minute of compiling
    if compiled.prototypes is not None:
        compiled.prototypes(["happy"], ["a {} face"])
        assert stats["unique_graphs"] == 1  # the text tower stays as it is


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["tiny-clip", "tiny-ast"])
def test_compiled_demo_encoders_are_near(name: str, precision: str) -> None:
    torch._dynamo.utils.counters.clear()
    plain, compiled = build(name), build(name, compile=True, precision=precision)
    inputs = batch_of(plain, 32 if name == "tiny-clip" else 4)
    cosine, _ = likeness(compiled, plain, inputs)
    assert cosine > (0.999999 if precision == "float32" else 0.99)
    assert compiled.identity == {**plain.identity, "compiled": True, "compute_dtype": precision}
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_what_cannot_be_compiled_is_said_before_a_clip_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler, torch fails at the first batch."""

    def broken(self: nn.Module, **_: Any) -> None:
        def forward(*_: Any) -> None:
            raise RuntimeError("Failed to find C++ compiler.\nMore.")

        self.forward = forward  # type: ignore[method-assign]

    monkeypatch.setattr(nn.Module, "compile", broken)
    with pytest.raises(VAError, match=r"--compile: torch cannot compile 'ast' \(Failed to find C\+\+ compiler.\)"):
        build("ast", ast_weights=small_ast(tmp_path), compile=True)


# --- a row and its batch


def assert_rows_stand_alone(encoder: Encoder, size: int) -> None:
    """Move rows to other places, give them other neighbours, leave them alone among padding: no bit may change."""
    inputs = batch_of(encoder, size)
    strangers = batch_of(encoder, size, seed=1)
    padding = (torch.zeros_like(inputs[0]), *(torch.ones_like(column) for column in inputs[1:]))
    with torch.inference_mode():
        expected = encoder.encode(*inputs)
        assert len({row.numpy().tobytes() for row in expected}) == size
        for shift in (1, size // 2):
            moved = encoder.encode(*(column.roll(shift, 0) for column in inputs))
            assert torch.equal(moved, expected.roll(shift, 0))
        for others, place, row in ((strangers, 0, size - 1), (padding, size - 1, 0), (padding, size // 2, 1)):
            columns = [column.clone() for column in others]
            for column, mine in zip(columns, inputs, strict=True):
                column[place] = mine[row]
            assert torch.equal(encoder.encode(*columns)[place], expected[row])


@pytest.mark.parametrize(("name", "size"), [("tiny-clip", 32), ("tiny-clip", 8), ("tiny-ast", 4)])
def test_a_row_does_not_depend_on_its_place_or_its_neighbours(name: str, size: int) -> None:
    assert_rows_stand_alone(build(name), size)


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_a_row_without_weights_does_neither(name: str) -> None:
    assert_rows_stand_alone(build(name), 4)


def full_clip(folder: Path) -> Encoder:
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None, load_weights=False)
    save_file(model.state_dict(), folder / "clip.safetensors")
    return build("clip-vit-b-16", clip_weights=folder / "clip.safetensors")


def full_ast(folder: Path) -> Encoder:
    torch.manual_seed(0)
    ASTModel(ASTConfig()).save_pretrained(folder)
    return build("ast", ast_weights=folder)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "size"), [(full_clip, 32), (full_ast, 4)])
def test_a_row_of_the_full_size_does_neither(tmp_path: Path, make: Callable[[Path], Encoder], size: int) -> None:
    encoder = make(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()  # hundreds of megabytes, which pytest would keep
    assert_rows_stand_alone(encoder, size)
