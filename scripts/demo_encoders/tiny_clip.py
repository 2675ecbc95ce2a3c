"""The demo image encoder: open_clip's CLIP class, tiny, trained on drawn faces and the region texts."""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn import functional

from demo_encoders import common, data
from va.data.regions import CENTERS, REGION_TEXTS, TEMPLATES

NAME = "tiny-clip"
CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    # open_clip's convolutional tower (CLIP's own "RN" family): a transformer of this size does not find the mouth in
    # a few minutes, a convolution does.
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    "quick_gelu": True,
}
SIGMA = 0.45


def all_texts() -> list[str]:
    """List the 27 texts: the three templates of the first region, then of the second, and so on."""
    return [template.format(text) for text in REGION_TEXTS for template in TEMPLATES]


def text_targets(affect: Tensor) -> Tensor:
    """Spread the soft region labels (paper eq. 2) evenly over the templates: [N, 2] -> [N, 27], rows sum to 1."""
    grid = torch.tensor([(v, a) for v in CENTERS for a in CENTERS], device=affect.device)
    distance = (affect[:, None, :] - grid[None]).square().sum(dim=-1)
    soft = torch.softmax(-distance / (2 * SIGMA**2), dim=-1)
    return soft.repeat_interleave(len(TEMPLATES), dim=-1) / len(TEMPLATES)


def symmetric_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Contrast pictures with texts and texts with pictures; several positives each, softly. Both [B, 27]."""
    to_text = -(targets * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()
    columns = targets / targets.sum(dim=0, keepdim=True)
    to_image = -(columns * functional.log_softmax(logits, dim=0)).sum(dim=0).mean()
    return 0.5 * (to_text + to_image)


def normalise(pictures: Tensor) -> Tensor:
    """Turn uint8 [B, 64, 64, 3] into what the model expects: float32 [B, 3, 64, 64], OpenAI's mean and deviation."""
    mean = torch.tensor(OPENAI_DATASET_MEAN, device=pictures.device)
    deviation = torch.tensor(OPENAI_DATASET_STD, device=pictures.device)
    return ((pictures.float() / 255 - mean) / deviation).permute(0, 3, 1, 2).contiguous()


def build() -> CLIP:
    """Make the model with random weights."""
    model = CLIP(**CONFIG)
    # With open_clip's deviation of .02 all texts start as one point, where the contrast has no slope to follow.
    nn.init.normal_(model.token_embedding.weight, std=0.3)
    return model


def _train(
    model: CLIP, examples: data.Examples, tokens: Tensor, options: argparse.Namespace, device: torch.device
) -> float:
    inputs, affect = torch.from_numpy(examples.inputs).to(device), torch.from_numpy(examples.affect).to(device)

    def loss_of_batch() -> Tensor:
        rows = torch.randint(len(inputs), (options.clip_batch,), device=device)
        pictures = normalise(inputs[rows])
        seen = model.encode_image(pictures, normalize=True)
        read = model.encode_text(tokens, normalize=True)
        with torch.autocast(device.type, enabled=False):
            logits = model.logit_scale.exp().clamp(max=100) * (seen.float() @ read.float().T)
        return symmetric_loss(logits, text_targets(affect[rows]))

    model.train()
    return common.train(
        list(model.parameters()),
        loss_of_batch=loss_of_batch,
        steps=options.clip_steps,
        peak_rate=1e-3,
        budget_s=options.budget_s,
        device=device,
        label=NAME,
    )


@torch.no_grad()
def measure(model: CLIP, examples: data.Examples, tokens: Tensor, device: torch.device) -> list[tuple[str, str]]:
    """Score the frozen encoder: ridge on its embedding, and the regions read off the texts without training."""
    inputs = torch.from_numpy(examples.inputs)
    # Raw embeddings, as they are cached; the angle to the prototypes is the same.
    parts = [model.encode_image(normalise(block.to(device)), normalize=False) for block in inputs.split(512)]
    seen = torch.cat(parts).float().cpu().numpy()
    read = model.encode_text(tokens, normalize=True).reshape(len(REGION_TEXTS), len(TEMPLATES), -1).mean(dim=1)
    prototypes = functional.normalize(read, dim=-1).float().cpu().numpy()
    region = (seen @ prototypes.T).argmax(axis=1)
    truth = np.abs(examples.affect[:, :, None] - np.asarray(CENTERS)[None, None]).argmin(axis=2)
    ridge = common.ridge_ccc(seen, examples.affect, examples.identity)
    return [
        ("identities / pictures", f"{len(np.unique(examples.identity))} / {len(seen)}"),
        ("ridge on the embedding, CCC valence", f"{ridge['valence']:.3f}"),
        ("ridge on the embedding, CCC arousal (faint in a face by design)", f"{ridge['arousal']:.3f}"),
        ("zero-shot by prototypes: valence third of three (chance .33)", f"{(region // 3 == truth[:, 0]).mean():.3f}"),
        ("zero-shot by prototypes: arousal third of three (chance .33)", f"{(region % 3 == truth[:, 1]).mean():.3f}"),
    ]


def make(options: argparse.Namespace, device: torch.device, when_rendered: Callable[[], None]) -> None:
    """Render, train, save, reload, measure and write the card; `when_rendered` is called once the CPU is free."""
    started = time.monotonic()
    render_options = {"seed": options.seed, "workers": options.workers}
    examples = data.render(
        data.face_examples,
        identities=range(options.identities),
        number=options.frames,
        label="faces",
        **render_options,
    )
    kept = range(data.HELD_OUT_FROM, data.HELD_OUT_FROM + max(10, options.identities // 16))
    held_out = data.render(
        data.face_examples, identities=kept, number=30 * len(kept), label="held-out faces", **render_options
    )
    when_rendered()
    torch.manual_seed(options.seed)
    tokens = SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])(all_texts()).to(device)
    model = build().to(device)
    loss = _train(model, examples, tokens, options, device)
    folder = options.out / NAME
    size = common.save(model, config_json=json.dumps(CONFIG, indent=2), folder=folder)
    shipped: nn.Module = build()
    common.load_into(shipped, folder=folder)
    figures = measure(shipped.to(device), held_out, tokens, device)
    figures += [
        ("last training loss", f"{loss:.4f}"),
        ("size of the weights", f"{size / 1e6:.2f} MB"),
    ]
    for left, right in figures:
        print(f"[{NAME}] {left}: {right}", flush=True)
    common.write_card(
        folder=folder,
        title="tiny-clip: the demo image encoder",
        what=(
            "A contrastive image-text model of open_clip's own `CLIP` class: 64 px pictures, the convolutional\n"
            "tower of CLIP's RN family at width 16 with one block a stage, 128-d embedding. It was trained by\n"
            "contrast alone to tell which of the 27 region texts (9 texts in 3 templates) fit a drawn face; the\n"
            "targets are the soft labels of paper eq. 2."
        ),
        data=(
            f"{options.frames} drawn faces of {options.identities} identities at 128 px\n"
            "(see `va/data/synthetic/face.py`), half of them through JPEG, resized to 64 px as open_clip's\n"
            "evaluation transform does."
        ),
        figures=figures,
        command=options.command,
        hardware=common.device_in_words(device),
        minutes=(time.monotonic() - started) / 60,
    )
