"""The head: features of two modalities to valence and arousal over time (paper figure 1).

It only composes `temporal`, `fusion`, `cnn` and `prompts`, and holds the one rule about missing input
(docs/method.md, settled 9): a masked value can never change a result, nor a gradient.

Shapes: N trials (the axis may be missing, see `layers`), B batch, T video steps, S audio steps, D width, R regions.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from va.model.cnn import LogMelCNN
from va.model.fusion import AttentionFusion, GatedAlone, HierarchicalFusion
from va.model.layers import Linear, spread
from va.model.prompts import RegionHead
from va.model.temporal import TCN, BiGRU, scan_together

_FUSION: dict[str, type[AttentionFusion] | type[GatedAlone] | type[HierarchicalFusion]] = {
    "attention": AttentionFusion,
    "gated": GatedAlone,
    "hierarchical": HierarchicalFusion,
}
_MODALITIES = ("both", "face", "voice")
_TARGETS = ("frames", "end")


class TCNShape(NamedTuple):
    """What a TCN needs beyond its width (docs/method.md, settled 10)."""

    levels: int
    kernel: int
    dropout: float
    causal: bool


class HeadOutput(NamedTuple):
    """What the head says about each step; with `target="end"` there is one step (T = 1).

    Attributes:
        va: Float [(N,) B, T, 2], (valence, arousal), unbounded: inference clamps it (docs/method.md, R3).
        region_logits: Float [(N,) B, T, R].
        gate: Float [(N,) B, T] in [0, 1], the share of the sound averaged over the width; 0 for a head without
            audio, 1 for a head without video.
    """

    va: Tensor
    region_logits: Tensor
    gate: Tensor


class Projection(nn.Module):
    """Stored embeddings to the head's width (docs/method.md, F5), standardised first if asked to (settled 12).

    Args:
        input_dim: Features of a step as extracted.
        width: Features of a step afterwards.
        standardise: Keep a mean and a scale per feature, to be set from training data; 0 and 1 until then.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, *, input_dim: int, width: int, standardise: bool) -> None:
        super().__init__()
        self.linear = Linear(input_dim, width)
        self.standardise = standardise
        if standardise:
            self.register_buffer("mean", torch.zeros(input_dim))
            self.register_buffer("scale", torch.ones(input_dim))

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Map float [(N,) B, T, input_dim] to [(N,) B, T, D]; anything finite where `valid` is False."""
        # Zeroed before the product: the weight's gradient is grad x input, and 0 x NaN is NaN.
        features = features.masked_fill(~valid[..., None], 0.0)
        if self.standardise:
            mean, scale = (spread(part, features, trailing=1) for part in (self.mean, self.scale))
            features = (features - mean) * scale
        projected: Tensor = self.linear(features)
        return projected


class ModalityBranch(nn.Module):
    """One modality up to its H: projection, learned vector for masked steps, temporal model (paper eq. 1).

    Args:
        projection: `[(N,) B, T, input] and mask -> [(N,) B, T, D]`.
        width: D.
        tcn: The temporal model's shape, or None for a GRU.
    """

    def __init__(self, *, projection: nn.Module, width: int, tcn: TCNShape | None) -> None:
        super().__init__()
        self.projection = projection
        self.missing = nn.Parameter(torch.zeros(width))
        self.temporal: BiGRU | TCN = BiGRU(width=width) if tcn is None else TCN(width=width, **tcn._asdict())

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Encode one modality of a batch of windows.

        Args:
            features: Float [(N,) B, T, input], steps in time order; anything, NaN too, where `valid` is False.
            valid: Bool [(N,) B, T].

        Returns:
            Float [(N,) B, T, D]; finite at masked steps.

        Raises:
            ValueError: `valid` is not a mask over the steps of `features`.
        """
        hidden: Tensor = self.temporal(self.enter(features, valid))
        return hidden

    def enter(self, features: Tensor, valid: Tensor) -> Tensor:
        """Give what enters the temporal model; arguments, shape and errors as `forward`."""
        if valid.shape != features.shape[:-1]:
            raise ValueError(f"mask {tuple(valid.shape)} does not fit features {tuple(features.shape)}")
        projected = self.projection(features, valid)
        return torch.where(valid[..., None], projected, spread(self.missing, projected, trailing=1))


class VAHead(nn.Module):
    """Everything that is trained, from cached features to valence and arousal (docs/method.md, F5 to F12).

    Args:
        frame_dim: Features of a video step (512 for CLIP); not used by a "voice" head.
        audio_dim: Features of an audio step (768 for AST); not used by a "face" head.
        audio_cnn: The audio features are log-mel pictures for the CNN of the paper's table 1 (settled 10).
        prototypes: Float [R, P], one text prototype per region.
        width: Features of everything inside, even; the paper uses 256.
        num_heads: Attention heads; divides `width`.
        modalities: "both", "face" (F = H_v, no audio parameters) or "voice" (F = H_a, no video parameters).
        target: "frames" for an answer per video step, "end" for one per window (docs/method.md, settled 4).
        tcn: Shape of the temporal models, or None for bidirectional GRUs.
        fusion: "attention", "gated" or "hierarchical" (paper table 2); not used by a head of one modality.
        init_scale: First scale of the region logits, above 0.
        standardise: Standardise stored features (settled 12).

    Raises:
        ValueError: An unknown name, or a number its module refuses.
    """

    def __init__(
        self,
        *,
        frame_dim: int,
        audio_dim: int,
        audio_cnn: bool,
        prototypes: Tensor,
        width: int,
        num_heads: int,
        modalities: str,
        target: str,
        tcn: TCNShape | None,
        fusion: str,
        init_scale: float,
        standardise: bool,
    ) -> None:
        super().__init__()
        _check_choice("modalities", modalities, _MODALITIES)
        _check_choice("target", target, _TARGETS)
        _check_choice("fusion", fusion, tuple(_FUSION))
        self.modalities = modalities
        self.target = target
        if modalities != "voice":
            pictures = Projection(input_dim=frame_dim, width=width, standardise=standardise)
            self.video = ModalityBranch(projection=pictures, width=width, tcn=tcn)
        if modalities != "face":
            sound: nn.Module
            if audio_cnn:
                sound = LogMelCNN(width=width)
            else:
                sound = Projection(input_dim=audio_dim, width=width, standardise=standardise)
            self.audio = ModalityBranch(projection=sound, width=width, tcn=tcn)
        if modalities == "both":
            self.fusion = _FUSION[fusion](width=width, num_heads=num_heads)
        self.region_head = RegionHead(width=width, prototypes=prototypes, init_scale=init_scale)
        self.output = Linear(width, 2)

    def forward(
        self,
        frames: Tensor,
        frame_valid: Tensor,
        audio: Tensor,
        audio_valid: Tensor,
        prototypes: Tensor | None = None,
    ) -> HeadOutput:
        """Estimate valence and arousal for a batch of windows.

        Args:
            frames: Float [(N,) B, T, frame_dim], in the dtype of the parameters.
            frame_valid: Bool [(N,) B, T]; False for no face, padding, a failed frame.
            audio: Float [(N,) B, S, audio_dim].
            audio_valid: Bool [(N,) B, S]; False for padding and for a clip without sound.
            prototypes: Float [(N,) R, P] instead of the head's own (`RegionHead.forward`).

        Returns:
            `HeadOutput`, one step per video step or, with `target="end"`, one for the window: the mean of F
            over all its steps goes through the same two linear layers (docs/method.md, settled 4 and R7).

        Raises:
            ValueError: A mask does not fit its features, or a "voice" head gets S other than T.
        """
        fused, gate = self._fuse(frames, frame_valid, audio, audio_valid)
        if self.target == "end":
            fused, gate = fused.mean(dim=-2, keepdim=True), gate.mean(dim=-1, keepdim=True)
        return HeadOutput(self.output(fused), self.region_head(fused, prototypes), gate)

    def _fuse(self, frames: Tensor, frame_valid: Tensor, audio: Tensor, audio_valid: Tensor) -> tuple[Tensor, Tensor]:
        if self.modalities == "face":
            video = self.video(frames, frame_valid)
            return video, video.new_zeros(video.shape[:-1])
        if self.modalities == "voice":
            # Labels belong to video steps; without video parameters nothing can bring other steps to them.
            if audio.shape[-2] != frames.shape[-2]:
                raise ValueError(f"a voice head needs S == T, got {audio.shape[-2]} and {frames.shape[-2]}")
            sound = self.audio(audio, audio_valid)
            return sound, sound.new_ones(sound.shape[:-1])
        video, sound = self._encode(frames, frame_valid, audio, audio_valid)
        fused, gate = self.fusion(video, sound, audio_valid)
        return fused, gate.mean(dim=-1)

    def _encode(self, frames: Tensor, frame_valid: Tensor, audio: Tensor, audio_valid: Tensor) -> tuple[Tensor, Tensor]:
        """Give H_v and H_a."""
        video, sound = self.video.enter(frames, frame_valid), self.audio.enter(audio, audio_valid)
        seeing, hearing = self.video.temporal, self.audio.temporal
        # Of one head a scan's operations are short, and calling them takes as long as they do: half as many pay for
        # putting the weights together. Of several trials they do not (docs/experiments.md).
        alone = video.ndim == 3 or len(video) == 1
        if alone and video.shape == sound.shape and isinstance(seeing, BiGRU) and isinstance(hearing, BiGRU):
            video, sound = scan_together([seeing, hearing], [video, sound])
            return video, sound
        return seeing(video), hearing(sound)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
