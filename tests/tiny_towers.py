"""Encoders small enough to be taken apart in a test, and their gradients by one graph, without any of the tricks."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder
from va.model.head import TCNShape, VAHead
from va.model.prompts import region_centers, soft_labels
from va.train import losses
from va.train.finetuning.parallel import Parallel
from va.train.finetuning.tower_config import TowerSettings
from va.train.finetuning.towers import Towers
from va.train.finetuning.window_inputs import WindowFeatures, WindowInputs

CPU = torch.device("cpu")
CELLS = 4
"""Of a window of 2 s."""
Pair = tuple[Encoder, Encoder]

_CLIP: dict[str, Any] = {
    "embed_dim": 10,
    "vision_cfg": {"image_size": 16, "layers": 3, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49_408, "width": 8, "heads": 2, "layers": 1},
    "quick_gelu": True,
}
_AST = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"), **({"window_s": 2.0, "stride_s": 1.0} | changes))


def randomise(model: Any, *, seed: int) -> Any:
    """Leave no parameter at 0 or 1, so that every one of them matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise * (0.2 if parameter.ndim < 2 else 0.05))
    return model.eval().requires_grad_(False)


def vit(*, seed: int = 0) -> Encoder:
    """A CLIP vision transformer of three blocks."""
    import open_clip  # here and below: takes seconds, and processes that train `plain` encoders need none of it

    from va.extract import clip

    torch.manual_seed(seed)
    model = randomise(open_clip.CLIP(**_CLIP), seed=seed)
    return clip.from_model(model, name="small-clip", weights_digest=f"c{seed}", config=config())


def small_ast(*, seed: int = 0, **changes: Any) -> Encoder:
    """An AST of two blocks that takes windows of two seconds."""
    from transformers import ASTConfig, ASTModel

    from va.extract import ast

    torch.manual_seed(seed)
    model = randomise(ASTModel(ASTConfig(**(_AST | {"max_length": 208} | changes))), seed=seed)
    return ast.from_model(
        model, name="small-ast", weights_digest=f"a{seed}", normalisation=ast.AUDIOSET, config=config()
    )


class Plain(nn.Module):
    """Input layer, blocks, output layer, and a layer that nothing uses; in float64, as stage one's encoders are not."""

    def __init__(self, size: int, dim: int, *, noise: float = 0.0) -> None:
        super().__init__()
        self.top = nn.Linear(6, dim)  # first in the list of parameters, last in the pass
        self.bottom = nn.Linear(size, 6)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.Tanh()) for _ in range(3))
        self.idle = nn.Linear(6, 6)
        self.noise = noise

    def forward(self, values: Tensor) -> Tensor:
        hidden = self.bottom(values.flatten(1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        embedding: Tensor = self.top(hidden)
        self.idle(hidden)
        return embedding + self.noise * torch.rand_like(embedding) if self.noise else embedding


def plain(*, seed: int = 0, noise: float = 0.0) -> Pair:
    """Two encoders in float64 whose model inputs may be NaN."""
    torch.manual_seed(seed)
    tower, ear = (randomise(Plain(3, 5, noise=noise).double(), seed=seed + n) for n in (0, 1))

    def valid_steps(rows: int) -> NDArray[np.bool_]:
        return np.arange(CELLS) < rows

    def hear(spectra: Tensor, rows: Tensor) -> Tensor:
        each = ear(spectra.double())[:, None] * torch.arange(1, CELLS + 1)[:, None]
        return each + rows[:, None, None]

    identity = {"sampling": {"window_s": 2.0}}
    common = {"identity": identity, "dim": 5}
    face = Encoder(
        name="plain-eye",
        kind="frames",
        transform=lambda rgb: np.zeros(3, np.float32),
        encode=lambda pictures: tower(pictures.double()),
        tower=tower,
        **common,
    )
    voice = Encoder(
        name="plain-ear",
        kind="audio",
        transform=lambda rows: rows[0],
        encode=hear,
        spectrum=lambda wave: np.ones((4, 3), np.float32),
        valid_steps=valid_steps,
        tower=ear,
        **common,
    )
    return face, voice


def real() -> Pair:
    return vit(), small_ast()


def plain_inputs(windows: int, *, seed: int = 0) -> WindowInputs:
    """Inputs of `plain` encoders, with cells not seen, a window of which nothing is seen, and one without sound."""
    generator = torch.Generator().manual_seed(seed)
    seen = torch.rand(windows, CELLS, generator=generator) < 0.7
    seen[:1], seen[1:2] = True, False
    rows = torch.arange(windows) % (CELLS + 1)
    rows = torch.where(torch.arange(windows) % 4 == 2, 0, rows.clamp(min=1))
    pictures = torch.randn(windows, CELLS, 3, generator=generator).masked_fill(~seen[..., None], 0)
    spectra = torch.randn(windows, 3, generator=generator).masked_fill((rows == 0)[:, None], 0)
    return WindowInputs(pictures, seen, spectra, rows)


def real_inputs(windows: int, *, seed: int = 0) -> WindowInputs:
    """The same for `real` encoders."""
    plain = plain_inputs(windows, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    rows = (plain.rows * 50).clamp(max=198)
    pictures = torch.randint(0, 256, (windows, CELLS, 16, 16, 3), dtype=torch.uint8, generator=generator)
    spectra = torch.randn(windows, 208, 128, generator=generator) * (rows > 0)[:, None, None]
    return WindowInputs(pictures * plain.seen[..., None, None, None], plain.seen, spectra, rows)


def make_towers(pair: Pair, parallel: Parallel | None = None, **changes: Any) -> Towers:
    settings = TowerSettings(**({"learning_rate": 1e-2, "weight_decay": 0.1} | changes))
    return Towers(*pair, settings=settings, device=CPU, parallel=parallel or Parallel.alone(CPU))


def make_head(pair: Pair, dtype: torch.dtype) -> VAHead:
    """A head of the paper's kind, small."""
    torch.manual_seed(7)
    return VAHead(
        frame_dim=pair[0].dim,
        audio_dim=pair[1].dim,
        audio_cnn=False,
        prototypes=torch.randn(9, 6),
        width=8,
        num_heads=2,
        modalities="both",
        target="frames",
        tcn=TCNShape(levels=1, kernel=3, dropout=0.0, causal=False),
        fusion="hierarchical",
        init_scale=10.0,
        standardise=False,
    ).to(dtype)


def loss_of(head: VAHead, features: WindowFeatures, *, seed: int = 3) -> Tensor:
    """The paper's objective (eq. 6) on random labels, some of them missing."""
    generator = torch.Generator().manual_seed(seed)
    shape = features.frames.shape[:2]
    target = (torch.rand(*shape, 2, generator=generator) * 2 - 1).to(features.frames)
    valid = torch.rand(shape, generator=generator) < 0.8
    output = head(*features)
    soft = soft_labels(target, region_centers(((-0.66, 0.0, 0.66), (-0.66, 0.0, 0.66))).to(target), 0.45)
    kl = losses.region_kl(output.region_logits, soft, valid)
    return losses.ccc_loss(output.va, target, valid) + 0.2 * kl


def one_pass(towers: Towers, head: VAHead, inputs: WindowInputs) -> Tensor:
    """Steps 1 to 3; returns the loss."""
    features = towers.encode(inputs)
    loss = loss_of(head, features)
    loss.backward()  # type: ignore[no-untyped-call]
    towers.learn(inputs, features)
    return loss.detach()


def gradients(towers: Towers) -> dict[str, Tensor]:
    """Of everything that learns, by tower and name."""
    return {
        f"{kind}/{name}": parameter.grad.clone()
        for kind, tower in towers.towers.items()
        for name, parameter in tower.learning.items()
        if parameter.grad is not None
    }


def whole_batch(pair: Pair, head: VAHead, inputs: WindowInputs) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of all parameters by one graph over everything at once: what the tricks must equal."""
    face, voice = pair
    parts = {"face": face.tower, "voice": voice.tower}
    for tower in parts.values():
        assert tower is not None
        tower.requires_grad_(True)
    heard = inputs.rows > 0
    pictures, sounds = (
        face.encode(inputs.pictures[inputs.seen]),
        voice.encode(inputs.spectra[heard], inputs.rows[heard]),
    )
    frames = pictures.new_zeros(*inputs.seen.shape, face.dim)
    frames[inputs.seen] = pictures
    audio = sounds.new_zeros(len(heard), *sounds.shape[1:])
    audio[heard] = sounds
    assert voice.valid_steps is not None
    audio_valid = torch.from_numpy(np.stack([voice.valid_steps(int(rows)) for rows in inputs.rows]))
    loss = loss_of(head, WindowFeatures(frames, inputs.seen, audio, audio_valid))
    named = {
        f"{kind}/{name}": parameter
        for kind, tower in parts.items()
        if tower is not None
        for name, parameter in tower.named_parameters()
    }
    named |= {f"head/{name}": parameter for name, parameter in head.named_parameters()}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    for tower in parts.values():
        assert tower is not None
        tower.requires_grad_(False)
    return loss.detach(), {name: grad for name, grad in zip(named, found, strict=True) if grad is not None}


def recording(encoder: Encoder, seen: list[tuple[int, Tensor]]) -> Encoder:
    """An encoder that keeps how many inputs it is given and what it gives."""
    encode: Callable[..., Tensor] = encoder.encode

    def noted(*inputs: Tensor) -> Tensor:
        values = encode(*inputs)
        seen.append((len(inputs[0]), values.detach().clone()))
        return values

    return dataclasses.replace(encoder, encode=noted)


def rates_of(groups: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by name; fails if a parameter is in two groups."""
    pairs = [(name, (group["lr"], group["weight_decay"])) for group in groups for name in group["names"]]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)
