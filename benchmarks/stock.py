"""The same head from PyTorch's own modules, and the loop that a user would write around it.

What `benchmarks/train.py` compares `va train` with. It computes what `VAHead` computes, which `of` checks: the ways to
be compared differ in speed alone.
"""

import copy
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from trials import Ready, clock

from va.data.windows import WindowBatch
from va.model.head import VAHead
from va.model.prompts import region_centers, soft_labels
from va.train import losses
from va.train.config import TrainConfig


class Branch(nn.Module):
    """One modality: projection, learned vector for masked steps, bidirectional GRU."""

    def __init__(self, input_dim: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(input_dim, width)
        self.missing = nn.Parameter(torch.zeros(width))
        self.gru = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Map [B, T, input] to [B, T, D]."""
        known = valid[..., None]
        steps = torch.where(known, self.projection(features.masked_fill(~known, 0.0)), self.missing)
        return self.gru(steps)[0]


class StockHead(nn.Module):
    """GRU, attention, gate, region head: the paper's head, masks as in settled 9."""

    prototypes: Tensor

    def __init__(self, *, frame_dim: int, audio_dim: int, prototypes: Tensor, width: int, num_heads: int) -> None:
        super().__init__()
        self.video, self.audio = Branch(frame_dim, width), Branch(audio_dim, width)
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.gate = nn.Linear(2 * width, width)
        self.region = nn.Linear(width, prototypes.shape[1], bias=False)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.output = nn.Linear(width, 2)
        self.register_buffer("prototypes", functional.normalize(prototypes, dim=-1))

    def forward(self, frames: Tensor, frame_valid: Tensor, audio: Tensor, audio_valid: Tensor) -> tuple[Tensor, Tensor]:
        """Give valence and arousal [B, T, 2] and region logits [B, T, R]."""
        video, sound = self.video(frames, frame_valid), self.audio(audio, audio_valid)
        has_audio = audio_valid.any(dim=1, keepdim=True)
        attended, _ = self.attention(video, sound, sound, key_padding_mask=~audio_valid & has_audio, need_weights=False)
        attended = torch.where(has_audio[..., None], attended, 0.0)
        gate = torch.sigmoid(self.gate(torch.cat((attended, video), dim=-1)))
        gate = torch.where(has_audio[..., None], gate, 0.0)
        fused = gate * attended + (1 - gate) * video
        direction = functional.normalize(self.region(fused), dim=-1)
        return self.output(fused), self.log_scale.exp() * (direction @ self.prototypes.T)


def of(head: VAHead, batch: WindowBatch) -> StockHead:
    """Make a stock head with the weights of a GRU head with hierarchical fusion.

    Args:
        head: Without a trial axis.
        batch: Any, [B, ...]; on it both must answer alike.
    """
    weights = head.state_dict()
    made = StockHead(
        frame_dim=batch.frames.shape[-1],
        audio_dim=batch.audio.shape[-1],
        prototypes=head.region_head.prototypes,
        width=head.output.in_features,
        num_heads=head.fusion.attention.num_heads,
    ).to(batch.frames.device)
    found = {
        "prototypes": made.prototypes,
        "log_scale": weights["region_head.log_scale"],
        "region.weight": weights["region_head.projection.weight"],
    }
    for part in ("weight", "bias"):
        found[f"output.{part}"] = weights[f"output.{part}"]
        found[f"gate.{part}"] = weights[f"fusion.gated.linear.{part}"]
        found[f"attention.out_proj.{part}"] = weights[f"fusion.attention.output.{part}"]
        own = {name: weights.get(f"fusion.attention.{name}.{part}") for name in ("query", "key", "value")}
        given = [torch.zeros_like(own["query"]) if value is None else value for value in own.values()]
        found[f"attention.in_proj_{part}"] = torch.cat(given)
    for name in ("video", "audio"):
        found[f"{name}.missing"] = weights[f"{name}.missing"]
        for part in ("weight", "bias"):
            found[f"{name}.projection.{part}"] = weights[f"{name}.projection.linear.{part}"]
            for theirs, ours in (("ih", "input"), ("hh", "hidden")):
                both = weights[f"{name}.temporal.{ours}_{part}"]
                for suffix, values in zip(("", "_reverse"), both, strict=True):
                    found[f"{name}.gru.{part}_{theirs}_l0{suffix}"] = values
    made.load_state_dict(found)
    with torch.no_grad():
        ours, theirs = head(*batch[:4]), made(*batch[:4])
    torch.testing.assert_close(theirs[0], ours.va, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(theirs[1], ours.region_logits, rtol=1e-3, atol=1e-4)
    return made


class Training:
    """One head, its optimiser and its step.

    Args:
        head: Trained in place.
        config: Learning rate, weight decay, regions.
        fused: Which AdamW: `fused=True`, or torch's default.
    """

    def __init__(self, head: StockHead, config: TrainConfig, *, fused: bool) -> None:
        self.head, self.config, self.fused = head.train(), config, fused
        self.optimiser = torch.optim.AdamW(
            head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused or None
        )
        self.centers = region_centers(config.axes).to(head.prototypes.device)

    def step(self, batch: WindowBatch) -> Tensor:
        """Update once; the loss before it, without gradient."""
        va, logits = self.head(*batch[:4])
        soft = soft_labels(batch.target, self.centers, self.config.sigma)
        # What the scalar form of the CCC loss does, without its check, which would wait for a GPU.
        ccc = losses.ccc_loss(va[None], batch.target[None], batch.target_valid[None], trials=True)[0]
        loss = ccc + self.config.region_weight * losses.region_kl(logits, soft, batch.target_valid)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()


def quicker(head: StockHead, config: TrainConfig, batch: WindowBatch) -> Training:
    """Choose between torch's default AdamW and the fused one by the time of the whole step."""
    both = [Training(copy.deepcopy(head), config, fused=fused) for fused in (False, True)]
    times: list[list[float]] = [[], []]
    for _ in range(12):
        for found, training in zip(times, both, strict=True):
            found.append(clock(batch.frames.device, lambda step=training.step: step(batch), times=2))
    return min(zip(map(statistics.median, times), both, strict=True), key=lambda pair: pair[0])[1]


class WindowsInHDF5(Dataset[tuple[Tensor, ...]]):
    """The training windows, each read from the feature files when it is asked for; labels and masks in memory.

    Args:
        ready: Gives the files, and labels and masks as `va train` has them.
    """

    def __init__(self, ready: Ready) -> None:
        data, pool, spans = ready.planned[0].data, ready.pool, ready.trials[0].train
        self.items = [(span.clip.id, row - span.windows.start, row) for span in spans for row in _rows(span.windows)]
        self.first_cell = pool.local_cells[:, 0].tolist()
        self.num_cells = pool.local_cells.shape[1]
        cells = pool.cells[:-1]
        gathered = (pool.frame_valid[cells], pool.audio_valid[:-1], pool.target[cells], pool.target_valid[cells])
        self.small = [tensor.cpu() for tensor in gathered]
        self.files = [_files_of_clips(store.directory) for store in (data.face, data.voice)]
        self.opened: dict[Path, h5py.File] = {}  # by the process that reads: HDF5 files do not survive a fork

    def __len__(self) -> int:
        """Count the windows."""
        return len(self.items)

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        """Read one window, in the order of `WindowBatch`."""
        clip, window, row = self.items[number]
        first = self.first_cell[row]
        frames = self._values(0, clip)[first : first + self.num_cells]
        audio = self._values(1, clip)[window]
        frame_valid, audio_valid, target, target_valid = (tensor[row] for tensor in self.small)
        features = (torch.from_numpy(values).float() for values in (frames, audio))
        return next(features), frame_valid, next(features), audio_valid, target, target_valid

    def _values(self, store: int, clip: str) -> Any:
        path = self.files[store][clip]
        if path not in self.opened:
            self.opened[path] = h5py.File(path, "r", locking=False)
        return self.opened[path][clip]["values"]


def epoch(training: Training, ready: Ready, *, workers: int) -> Callable[[], float]:
    """Give a function that trains for one epoch as a user would, and returns seconds per step.

    Workers are started here, once, so that a short epoch does not look worse than a long one.
    """
    loader = DataLoader(
        WindowsInHDF5(ready),
        batch_size=training.config.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=ready.device.type == "cuda",
    )
    next(iter(loader))

    def train() -> float:
        total = 0.0
        for parts in loader:
            batch = WindowBatch(*(part.to(ready.device, non_blocking=True) for part in parts))
            total += training.step(batch).item()
        return total / len(loader)

    return lambda: clock(ready.device, train) / len(loader)


def _rows(windows: slice) -> range:
    return range(windows.start, windows.stop)


def _files_of_clips(directory: Path) -> dict[str, Path]:
    found = {}
    for path in directory.glob("shards/*.h5"):
        with h5py.File(path, "r", locking=False) as file:
            found |= dict.fromkeys(file, path)
    return found
