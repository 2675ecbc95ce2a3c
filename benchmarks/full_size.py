"""ViT-B/16, AST and the paper's head with random weights, and one update of them."""

from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from torch import Tensor
from transformers import ASTConfig, ASTModel

from va.extract import ast, clip
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder
from va.model.head import VAHead
from va.train import losses
from va.train.finetuning.parallel import Parallel
from va.train.finetuning.tower_config import TowerSettings
from va.train.finetuning.towers import Towers
from va.train.finetuning.window_inputs import WindowFeatures, WindowInputs

BATCH, CELLS, ROWS = 16, 20, 998
"""Windows of the paper's batch; cells and rows of spectrum of a window of 10 s."""

_VISION = {"image_size": 224, "layers": 12, "width": 768, "head_width": 64, "patch_size": 16}
_TEXT = {"context_length": 77, "vocab_size": 49_408, "width": 512, "heads": 8, "layers": 12}


class Built(NamedTuple):
    """What is trained, with random weights."""

    model: Any
    face: Encoder
    voice: Encoder
    head: VAHead


class Way(NamedTuple):
    """How an update is done."""

    precision: str
    checkpointing: bool
    micro_batch: int


def build(device: torch.device) -> Built:
    """Make both encoders and the paper's head with random weights."""
    torch.manual_seed(0)
    config = ExtractConfig(corpus=Path("c"), out=Path("o"))
    with device:
        model = open_clip.CLIP(512, _VISION, _TEXT, quick_gelu=True).eval().requires_grad_(False)
        sound = ASTModel(ASTConfig()).eval().requires_grad_(False)
        head = VAHead(
            frame_dim=512,
            audio_dim=768,
            audio_cnn=False,
            prototypes=torch.randn(9, 512),
            width=256,
            num_heads=4,
            modalities="both",
            target="frames",
            tcn=None,
            fusion="hierarchical",
            init_scale=10.0,
            standardise=False,
        )
    face = clip.from_model(model, name="clip-vit-b-16", weights_digest="random", config=config)
    voice = ast.from_model(sound, name="ast", weights_digest="random", normalisation=ast.AUDIOSET, config=config)
    return Built(model, face, voice, head)


def random_features(built: Built, windows: int) -> WindowFeatures:
    """Embeddings as the head takes them."""
    valid = torch.ones(windows, CELLS, dtype=torch.bool)
    frames, audio = (torch.randn(windows, CELLS, each.dim, requires_grad=True) for each in (built.face, built.voice))
    return WindowFeatures(frames, valid, audio, valid)


def loss_of(head: VAHead, features: WindowFeatures) -> Tensor:
    """CCC on labels that rise."""
    output = head(*features).va.float()
    target = torch.linspace(-1, 1, output.numel(), device=output.device).view_as(output)
    valid = torch.ones_like(features.frame_valid)
    # As trials, of which nobody counts the labels: there may be no values to count.
    return losses.ccc_loss(output[None], target[None], valid[None], trials=True)[0]


class Update:
    """Updates of a batch of random inputs, the head's included."""

    def __init__(self, way: Way, *, windows: int, cells: int, device: torch.device) -> None:
        built = build(device)
        settings = TowerSettings(ema=0.999, clip_norm=1.0, **way._asdict())
        self.towers = Towers(built.face, built.voice, settings=settings, device=device, parallel=Parallel.alone(device))
        self.head = built.head
        self._optimiser = torch.optim.AdamW(self.head.parameters(), lr=1e-4, fused=True)
        generator = torch.Generator().manual_seed(0)
        self.inputs = WindowInputs(
            torch.randint(0, 256, (windows, CELLS, 224, 224, 3), dtype=torch.uint8, generator=generator),
            (torch.arange(CELLS) < cells).expand(windows, CELLS),
            torch.randn(windows, 1024, 128, generator=generator),
            torch.full((windows,), ROWS),
        )

    def __call__(self) -> float:
        """Make one; give the loss before it."""
        features = self.towers.encode(self.inputs)
        loss = loss_of(self.head, features)
        loss.backward()  # type: ignore[no-untyped-call]
        self.towers.learn(self.inputs, features)
        self.towers.update(factor=1.0)
        self._optimiser.step()
        self._optimiser.zero_grad()
        return float(loss.detach())
