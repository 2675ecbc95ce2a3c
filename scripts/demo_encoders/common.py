"""What both demo encoders need: the loop's schedule, a held-out ridge, saving and the model card."""

import datetime
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def device_in_words(device: torch.device) -> str:
    """Name the hardware for a model card."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    return f"{name}, {os.cpu_count()} CPU cores, torch {torch.__version__}"


def train(
    parameters: list[nn.Parameter],
    *,
    loss_of_batch: Callable[[], Tensor],
    steps: int,
    peak_rate: float,
    budget_s: float,
    device: torch.device,
    label: str,
) -> float:
    """Run AdamW with warm-up and cosine decay; a run out of time decays sooner rather than being cut off.

    Args:
        parameters: What to train.
        loss_of_batch: Draws a batch and computes its loss.
        steps: Number of steps.
        peak_rate: Highest learning rate.
        budget_s: Seconds after which training ends at the latest.
        device: Where; bfloat16 autocast on CUDA only.
        label: Word for the progress lines.

    Returns:
        Mean loss over the last eighth of the steps.
    """
    decayed = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98))
    started, recent = time.monotonic(), []
    block: list[Tensor] = []
    report = max(1, steps // 16)
    for step in range(steps):
        done = max(step / steps, (time.monotonic() - started) / budget_s)
        if done >= 1:
            print(f"[{label}] out of time at step {step}", flush=True)
            break
        rate = peak_rate * min(1.0, done / 0.05 + 1 / steps) * 0.5 * (1 + float(np.cos(np.pi * done)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = loss_of_batch()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        block.append(loss.detach())
        if (step + 1) % report == 0 or step + 1 == steps:
            recent.append(float(torch.stack(block).mean()))
            block = []
            print(
                f"[{label}] step {step + 1}/{steps}  loss {recent[-1]:.4f}  {time.monotonic() - started:.0f} s",
                flush=True,
            )
    return float(np.mean(recent[-2:])) if recent else float("nan")


def ccc(prediction: NDArray[Any], target: NDArray[Any]) -> float:
    """Concordance correlation of two float arrays [N], population variance."""
    p, t = prediction.astype(np.float64), target.astype(np.float64)
    covariance = ((p - p.mean()) * (t - t.mean())).mean()
    return float(2 * covariance / (p.var() + t.var() + (p.mean() - t.mean()) ** 2))


def ridge_ccc(features: NDArray[Any], affect: NDArray[Any], identity: NDArray[Any]) -> dict[str, float]:
    """Fit ridge regression on three fifths of the identities and score it on the others.

    Args:
        features: float [N, D].
        affect: float [N, 2].
        identity: int [N].

    Returns:
        `valence` and `arousal`: CCC on the identities not fitted on; the penalty is chosen on neither (1e-2 N
        times the features' variance, fixed).
    """
    known = np.unique(identity)
    fitted = np.isin(identity, known[: max(1, int(len(known) * 0.6))])
    x = np.asarray(features, np.float64)
    x = (x - x[fitted].mean(axis=0)) / (x[fitted].std(axis=0) + 1e-6)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    gram = x[fitted].T @ x[fitted] + 0.01 * fitted.sum() * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[fitted].T @ affect[fitted])
    predicted = x[~fitted] @ weights
    scores = [ccc(predicted[:, k], affect[~fitted][:, k]) for k in range(2)]
    return {"valence": scores[0], "arousal": scores[1]}


def save(model: nn.Module, *, config_json: str, folder: Path) -> int:
    """Write `model.safetensors` (float16) and `config.json`, each moved into place whole.

    Returns:
        Size of the weights, bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.detach().cpu().half() if value.is_floating_point() else value.detach().cpu()).contiguous()
        for key, value in model.state_dict().items()
    }
    weights, temporary = folder / "model.safetensors", folder / ".part"
    save_file(state, temporary, metadata={"format": "pt"})
    temporary.chmod(0o644)
    temporary.replace(weights)
    temporary.write_text(config_json.strip() + "\n")
    temporary.replace(folder / "config.json")
    return weights.stat().st_size


def load_into(model: nn.Module, *, folder: Path) -> None:
    """Read the saved weights back into a fresh float32 model; every tensor must be there and fit."""
    stored = load_file(folder / "model.safetensors")
    state = {key: value.float() if value.is_floating_point() else value for key, value in stored.items()}
    model.load_state_dict(state, strict=True)
    model.eval()


def write_card(
    *,
    folder: Path,
    title: str,
    what: str,
    data: str,
    figures: list[tuple[str, str]],
    command: str,
    hardware: str,
    minutes: float,
) -> None:
    """Write the model card `README.md`."""
    table = "\n".join(f"| {left} | {right} |" for left, right in figures)
    text = f"""# {title}

{what}

**Not for real faces or voices.** It has seen drawings and babble only; it exists so that the demo, the tests
and a first look need no download.

## Training data
{data}

All people, scenes and voices come from generators with a spawn key reserved for this purpose
(`va.data.synthetic.ENCODER_STREAM`); no corpus that `va corpus synth` writes can contain one of them.

## Measured
On identities that were not trained on, with the float16 weights as shipped, computed in float32.

| figure | value |
| --- | --- |
{table}

## How it was made
`{command}`

{datetime.datetime.now(datetime.UTC).date().isoformat()}, {hardware}; {minutes:.1f} minutes with rendering.
Licence: that of this repository.
"""
    temporary = folder / ".part"
    temporary.write_text(text)
    temporary.replace(folder / "README.md")
