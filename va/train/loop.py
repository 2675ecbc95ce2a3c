"""Stage two: cached features -> a run directory. One training loop, to be read from top to bottom.

Run it as `va train CORPUS FEATURES --out RUNS`. Early stopping watches `dev`, a part of the training identities,
never the split that is reported (settled 7), and scores it by the `abaw` protocol with the code of the final score.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from va import files, settings
from va.data.corpus import Corpus
from va.data.windows import WindowBatch, WindowSet
from va.device import choose_device
from va.errors import VAError
from va.evaluate import assemble, protocol
from va.model.head import VAHead
from va.model.inference import predict_windows
from va.model.prompts import region_centers, soft_labels
from va.train import checkpoint, losses
from va.train.config import TrainConfig
from va.train.data import Data, identity_of, load_windows, open_data


class Epoch(TypedDict):
    """One line of `log.jsonl`; losses are means over batches, CCCs are on the selection split (`abaw`)."""

    epoch: int
    loss: float
    ccc_loss: float
    region_kl: float
    ccc_valence: float
    ccc_arousal: float
    ccc_mean: float
    skipped_batches: int
    best: bool


def run(config: TrainConfig, *, epoch_done: Callable[[Epoch, int], None]) -> Path:
    """Train one head, or find that it has been trained already.

    Args:
        config: The stage's settings.
        epoch_done: Called after each epoch with its log line and the number of epochs.

    Returns:
        The run directory.

    Raises:
        VAError: Corpus or features are missing or do not fit together; nothing is written then.
    """
    data = open_data(config)
    identity = identity_of(config, data)
    name = config.name or f"gru-{'hierarchical' if config.modalities == 'both' else config.modalities}"
    directory = config.out / f"{name}-{settings.digest(identity)}"
    if checkpoint.is_finished(directory):
        return directory
    device = choose_device(config.device)
    train_set = load_windows(config, data, data.train, device)
    selection_set = load_windows(config, data, data.selection, device)
    torch.manual_seed(config.seed)
    head = checkpoint.make_head(
        config,
        frame_dim=data.face.dim,
        audio_dim=data.voice.dim,
        prototypes=torch.from_numpy(data.prototypes.values),
    ).to(device)
    directory.mkdir(parents=True, exist_ok=True)
    log: list[Epoch] = []

    def keep(line: Epoch) -> None:
        log.append(line)
        if line["best"]:
            checkpoint.save_head(directory, head)
        files.write_text(directory / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in log))
        epoch_done(line, config.epochs)

    fit(config, head, train_set, selection_set, data.corpus, epoch_done=keep)
    files.write_json(directory / "run.json", _describe(config, data, identity, log))
    return directory


def fit(
    config: TrainConfig,
    head: VAHead,
    train_set: WindowSet,
    selection_set: WindowSet,
    corpus: Corpus,
    *,
    epoch_done: Callable[[Epoch], None],
) -> None:
    """Train a head in place by L = L_CCC + lambda L_KL (paper eq. 6) until the selection score stops rising.

    Args:
        config: The stage's settings.
        head: On the sets' device.
        train_set: Windows that gradients come from.
        selection_set: Windows that choose the epoch.
        corpus: Gives the labels of the selection clips.
        epoch_done: Called after each epoch; its `best` says whether the head's weights are the best so far.

    Raises:
        VAError: The loss is not finite, or no batch has two valid labels.
    """
    device = train_set.cells.device
    centers = region_centers(config.centers).to(device)
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    # A stream of its own: the order of batches must not depend on how many numbers initialisation took.
    order = torch.Generator().manual_seed(config.seed)
    best, best_epoch = -np.inf, 0
    for epoch in range(1, config.epochs + 1):
        head.train()
        sums = torch.zeros(2, device=device)
        steps = skipped = 0
        shuffled = torch.randperm(len(train_set), generator=order).to(device)
        for index in torch.split(shuffled, config.batch_size):
            batch = train_set.batch(index)
            if int(batch.target_valid.sum()) < 2:
                skipped += 1  # a CCC of fewer than two labels is undefined (settled 8)
                continue
            ccc, kl = objective(head, batch, centers=centers, sigma=config.sigma)
            loss = ccc + config.region_weight * kl
            _require_finite(loss, epoch=epoch, step=steps + 1)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            sums += torch.stack([ccc.detach(), kl.detach()])
            steps += 1
        if not steps:
            raise VAError("no training batch has two valid labels", "Check the annotations of the training split.")
        score = validate(head, selection_set, corpus, batch_size=config.batch_size)
        is_best = score["ccc_mean"]["value"] > best
        if is_best:
            best, best_epoch = score["ccc_mean"]["value"], epoch
        epoch_done(_line(epoch, sums / steps, config.region_weight, score, skipped=skipped, best=is_best))
        if not best_epoch:
            raise VAError(
                f"the {config.select_on} split has no score, so no epoch can be chosen",
                "Check that its clips have at least two valid labels, or raise --dev-fraction.",
            )
        if epoch - best_epoch >= config.patience:
            break


def objective(head: VAHead, batch: WindowBatch, *, centers: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Compute the two terms of paper eq. 6 on one batch: L_CCC and L_KL, scalars with gradient.

    Args:
        head: In training mode, on the batch's device.
        batch: With at least two valid labels.
        centers: float32 [R, 2].
        sigma: Width of the soft labels (paper eq. 2).
    """
    output = head(batch.frames, batch.frame_valid, batch.audio, batch.audio_valid)
    soft = soft_labels(batch.target, centers, sigma)
    return (
        losses.ccc_loss(output.va, batch.target, batch.target_valid),
        losses.region_kl(output.region_logits, soft, batch.target_valid),
    )


def validate(head: VAHead, window_set: WindowSet, corpus: Corpus, *, batch_size: int) -> protocol.Score:
    """Score a head on every annotated frame of some clips (`abaw` protocol, settled 6).

    Args:
        head: On the set's device.
        window_set: Windows of the clips.
        corpus: Gives their labels.
        batch_size: Windows at once.
    """

    def inputs(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return window_set.batch(index)[:4]

    predictions = predict_windows(head, inputs=inputs, num_windows=len(window_set), batch_size=batch_size)
    local_cells = window_set.local_cells.cpu().numpy()
    clips = [
        assemble.frames_from_windows(
            span.clip.id,
            values=predictions.va[span.windows],
            cells=local_cells[span.windows],
            num_cells=span.cells,
            end_time_s=np.array(span.end_time_s),
            truth=corpus.truth(span.clip),
        )
        for span in window_set.spans
    ]
    return protocol.score_abaw(clips, resamples=1, seed=0)


def _require_finite(loss: Tensor, *, epoch: int, step: int) -> None:
    if not torch.isfinite(loss):
        raise VAError(
            f"the loss is {loss.item()} in epoch {epoch}, step {step}",
            "Lower --learning-rate, or check the features with 'va extract'.",
        )


def _line(epoch: int, means: Tensor, region_weight: float, score: protocol.Score, *, skipped: int, best: bool) -> Epoch:
    ccc_loss, region_kl = means.tolist()
    return Epoch(
        epoch=epoch,
        loss=ccc_loss + region_weight * region_kl,
        ccc_loss=ccc_loss,
        region_kl=region_kl,
        ccc_valence=score["ccc_valence"]["value"],
        ccc_arousal=score["ccc_arousal"]["value"],
        ccc_mean=score["ccc_mean"]["value"],
        skipped_batches=skipped,
        best=best,
    )


def _describe(config: TrainConfig, data: Data, identity: dict[str, Any], log: list[Epoch]) -> dict[str, Any]:
    best = max((line for line in log if line["best"]), key=lambda line: line["epoch"])
    return {
        "schema": checkpoint.SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": settings.as_dict(config),
        "identity": identity,
        "shape": {
            "frame_dim": data.face.dim,
            "audio_dim": data.voice.dim,
            "num_regions": len(data.prototypes.texts),
            "text_dim": int(data.prototypes.values.shape[1]),
        },
        "corpus": {
            "name": data.corpus.name,
            "path": str(data.corpus.path),
            "synthetic": data.corpus.synthetic,
        },
        "features": {"face": str(data.face.directory.absolute()), "voice": str(data.voice.directory.absolute())},
        "demo_encoders": bool(data.face.identity.get("demo") or data.voice.identity.get("demo")),
        "region_texts": list(data.prototypes.texts),
        "selection": {
            "split": config.select_on,
            "clips": [clip.id for clip in data.selection],
            "epoch": best["epoch"],
            "ccc_mean": best["ccc_mean"],
        },
        "train_clips": [clip.id for clip in data.train],
        "versions": checkpoint.versions(),
    }
