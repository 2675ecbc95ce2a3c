"""The demo audio encoder: transformers' AST class, tiny, trained on synthetic voices."""

import argparse
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTModel

from demo_encoders import common, data

NAME = "tiny-ast"
CONFIG: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 384,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "patch_size": 16,
    "frequency_stride": 10,
    "time_stride": 10,
    "max_length": 1024,
    "num_mel_bins": 128,
}
MEAN, DEVIATION = -4.2677393, 4.5689974
FREQUENCY_TOKENS, TIME_TOKENS, USED_TOKENS = 12, 101, 99
SPECIAL_TOKENS = 2


def pooling_matrix() -> Tensor:
    """Compute the weights [20, 99] that average the time tokens whose centre 0.1 j + 0.08 s is in each cell."""
    cell = np.floor((0.1 * np.arange(USED_TOKENS) + 0.08) / 0.5 + 1e-9).astype(np.int64)
    chosen = torch.from_numpy(cell)[None, :] == torch.arange(data.CELLS)[:, None]
    return chosen.float() / chosen.sum(dim=1, keepdim=True)


def prepare(rows: Tensor) -> Tensor:
    """Pad log-mel windows [B, 998, 128] with zero rows to 1024 and scale them as AST's extractor does."""
    padded = nn.functional.pad(rows.float(), (0, 0, 0, 1024 - rows.shape[1]))
    return (padded - MEAN) / (2 * DEVIATION)


def cells_of(model: ASTModel, rows: Tensor, pooling: Tensor) -> Tensor:
    """Encode windows [B, 998, 128] into one vector per half-second cell [B, 20, D]."""
    tokens = model(prepare(rows)).last_hidden_state[:, SPECIAL_TOKENS:]
    grid = tokens.unflatten(1, (FREQUENCY_TOKENS, TIME_TOKENS)).mean(dim=1)[:, :USED_TOKENS]
    return torch.einsum("ct,btd->bcd", pooling.to(grid.dtype), grid)


def ccc_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Sum 1 - CCC over both dimensions, pooled over all other axes."""
    p, t = prediction.reshape(-1, 2), target.reshape(-1, 2)
    covariance = ((p - p.mean(0)) * (t - t.mean(0))).mean(0)
    spread = p.var(0, unbiased=False) + t.var(0, unbiased=False) + (p.mean(0) - t.mean(0)).square()
    return (1 - 2 * covariance / (spread + 1e-6)).sum()


def build() -> ASTModel:
    """Make the model with random weights."""
    return ASTModel(ASTConfig(**CONFIG))


def _train(model: ASTModel, examples: data.Examples, options: argparse.Namespace, device: torch.device) -> float:
    # 5 GB at full size: on a CUDA device the rows stay where they are used.
    inputs, affect = torch.from_numpy(examples.inputs).to(device), torch.from_numpy(examples.affect).to(device)
    head = nn.Linear(CONFIG["hidden_size"], 2).to(device)
    pooling = pooling_matrix().to(device)

    def randint(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (options.ast_batch,), device=device)

    def loss_of_batch() -> Tensor:
        picked = torch.randint(len(inputs), (options.ast_batch,), device=device)
        # The last window of a clip is padded: three in ten end early here too, with zero rows as the extractor pads.
        cells = torch.where(torch.rand(len(picked), device=device) < 0.3, randint(2, data.CELLS), data.CELLS)
        heard = torch.arange(data.CELLS, device=device) < cells[:, None]
        audible = torch.arange(inputs.shape[1], device=device) < cells[:, None] * (100 // 2)
        rows = torch.where(audible[..., None], inputs[picked], torch.zeros((), dtype=inputs.dtype, device=device))
        prediction = head(cells_of(model, rows, pooling)).float()[heard]
        target = affect[picked][heard]
        return ccc_loss(prediction, target) + (prediction - target).square().mean()

    model.train()
    return common.train(
        [*model.parameters(), *head.parameters()],
        loss_of_batch=loss_of_batch,
        steps=options.ast_steps,
        peak_rate=1e-3,
        budget_s=options.budget_s,
        device=device,
        label=NAME,
    )


@torch.no_grad()
def measure(model: ASTModel, examples: data.Examples, device: torch.device) -> list[tuple[str, str]]:
    """Score the frozen encoder: ridge on its vector per half-second cell."""
    pooling = pooling_matrix().to(device)
    parts = [cells_of(model, block.to(device), pooling) for block in torch.from_numpy(examples.inputs).split(32)]
    cells = torch.cat(parts).float().cpu().numpy()
    width = cells.shape[-1]
    identity = np.repeat(examples.identity, data.CELLS)
    ridge = common.ridge_ccc(cells.reshape(-1, width), examples.affect.reshape(-1, 2), identity)
    return [
        ("identities / windows / cells", f"{len(np.unique(identity))} / {len(cells)} / {len(identity)}"),
        ("ridge on a cell's vector, CCC valence (faint in a voice by design)", f"{ridge['valence']:.3f}"),
        ("ridge on a cell's vector, CCC arousal", f"{ridge['arousal']:.3f}"),
    ]


def render(options: argparse.Namespace) -> tuple[data.Examples, data.Examples]:
    """Render the windows to train on and those to measure on."""
    render_options = {"seed": options.seed, "workers": options.workers}
    examples = data.render(
        data.voice_examples,
        identities=range(options.identities),
        number=options.windows,
        label="voices",
        **render_options,
    )
    kept = range(data.HELD_OUT_FROM, data.HELD_OUT_FROM + max(10, options.identities // 16))
    held_out = data.render(
        data.voice_examples, identities=kept, number=4 * len(kept), label="held-out voices", **render_options
    )
    return examples, held_out


def make(
    options: argparse.Namespace,
    device: torch.device,
    examples: data.Examples,
    held_out: data.Examples,
    started: float,
) -> None:
    """Train, save, reload, measure and write the card; `started` is the monotonic time when rendering began."""
    torch.manual_seed(options.seed)
    model = build().to(device)
    loss = _train(model, examples, options, device)
    folder = options.out / NAME
    size = common.save(model, config_json=model.config.to_json_string(), folder=folder)
    shipped: nn.Module = build()
    common.load_into(shipped, folder=folder)
    figures = measure(shipped.to(device), held_out, device)
    figures += [("last training loss", f"{loss:.4f}"), ("size of the weights", f"{size / 1e6:.2f} MB")]
    for left, right in figures:
        print(f"[{NAME}] {left}: {right}", flush=True)
    common.write_card(
        folder=folder,
        title="tiny-ast: the demo audio encoder",
        what=(
            "An Audio Spectrogram Transformer of transformers' own `ASTModel` class: 10 s of log-mel\n"
            "(128 bins), 4 layers of width 96. It was trained, with a linear layer that is not kept, to tell\n"
            "the valence and arousal of each half second of a synthetic voice (loss: 1 - CCC plus mean squared error)."
        ),
        data=(
            f"{options.windows} windows of 10 s from {options.identities} synthetic voices\n"
            "(see `va/data/synthetic/voice.py`) at 16 kHz with a random band limit and noise in place of a codec."
        ),
        figures=figures,
        command=options.command,
        hardware=common.device_in_words(device),
        minutes=(time.monotonic() - started) / 60,
    )
