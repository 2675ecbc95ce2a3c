"""The head: features of two modalities to valence and arousal over time (paper figure 1).

It only composes `temporal`, `fusion` and `prompts`, and holds the one rule about missing input
(docs/method.md, settled 9): a masked value can never change a result, nor a gradient.

Shapes: B batch, T video steps, S audio steps, D width, R regions.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from va.model.fusion import HierarchicalFusion
from va.model.prompts import RegionHead
from va.model.temporal import BiGRU

_TEMPORAL: dict[str, type[nn.Module]] = {"gru": BiGRU}
_FUSION: dict[str, type[nn.Module]] = {"hierarchical": HierarchicalFusion}
_MODALITIES = ("both", "face", "voice")
_TARGETS = ("frames", "end")


class HeadOutput(NamedTuple):
    """What the head says about each step; with `target="end"` there is one step (T = 1).

    Attributes:
        va: Float [B, T, 2], (valence, arousal), unbounded: inference clamps it (docs/method.md, R3).
        region_logits: Float [B, T, R].
        gate: Float [B, T] in [0, 1], the share of the sound averaged over the width; 0 for a head without
            audio, 1 for a head without video.
    """

    va: Tensor
    region_logits: Tensor
    gate: Tensor


class ModalityBranch(nn.Module):
    """One modality up to its H: projection, learned vector for masked steps, temporal model (paper eq. 1).

    Args:
        input_dim: Features of a step as extracted.
        width: Features of a step afterwards (docs/method.md, F5).
        temporal: Name of the temporal model; only "gru" for now.
    """

    def __init__(self, *, input_dim: int, width: int, temporal: str) -> None:
        super().__init__()
        self.projection = nn.Linear(input_dim, width)
        self.missing = nn.Parameter(torch.zeros(width))
        self.temporal = _TEMPORAL[temporal](width=width)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Encode one modality of a batch of windows.

        Args:
            features: Float [B, T, input_dim], steps in time order; anything, NaN too, where `valid` is False.
            valid: Bool [B, T].

        Returns:
            Float [B, T, D]; finite at masked steps.

        Raises:
            ValueError: `valid` is not a mask over the steps of `features`.
        """
        if valid.shape != features.shape[:2]:
            raise ValueError(f"mask {tuple(valid.shape)} does not fit features {tuple(features.shape)}")
        # Zeroed before the projection as well: the weight's gradient is grad x input, and 0 x NaN is NaN.
        projected_BTD = self.projection(torch.where(valid[..., None], features, 0.0))
        steps_BTD = torch.where(valid[..., None], projected_BTD, self.missing)
        hidden_BTD: Tensor = self.temporal(steps_BTD)
        return hidden_BTD


class VAHead(nn.Module):
    """Everything that is trained, from cached features to valence and arousal (docs/method.md, F5 to F12).

    Args:
        frame_dim: Features of a video step (512 for CLIP); not used by a "voice" head.
        audio_dim: Features of an audio step (768 for AST); not used by a "face" head.
        prototypes: Float [R, P], one text prototype per region.
        width: Features of everything inside, even; the paper uses 256.
        num_heads: Attention heads; divides `width`.
        modalities: "both", "face" (F = H_v, no audio parameters) or "voice" (F = H_a, no video parameters).
        target: "frames" for an answer per video step, "end" for one per window (docs/method.md, settled 4).
        temporal: "gru".
        fusion: "hierarchical"; not used by a head of one modality.
        init_scale: First scale of the region logits, above 0.

    Raises:
        ValueError: An unknown name, or a number its module refuses.
    """

    def __init__(
        self,
        *,
        frame_dim: int,
        audio_dim: int,
        prototypes: Tensor,
        width: int,
        num_heads: int,
        modalities: str,
        target: str,
        temporal: str,
        fusion: str,
        init_scale: float,
    ) -> None:
        super().__init__()
        _check_choice("modalities", modalities, _MODALITIES)
        _check_choice("target", target, _TARGETS)
        _check_choice("temporal", temporal, tuple(_TEMPORAL))
        _check_choice("fusion", fusion, tuple(_FUSION))
        self.modalities = modalities
        self.target = target
        if modalities != "voice":
            self.video = ModalityBranch(input_dim=frame_dim, width=width, temporal=temporal)
        if modalities != "face":
            self.audio = ModalityBranch(input_dim=audio_dim, width=width, temporal=temporal)
        if modalities == "both":
            self.fusion = _FUSION[fusion](width=width, num_heads=num_heads)
        self.region_head = RegionHead(width=width, prototypes=prototypes, init_scale=init_scale)
        self.output = nn.Linear(width, 2)

    def forward(self, frames: Tensor, frame_valid: Tensor, audio: Tensor, audio_valid: Tensor) -> HeadOutput:
        """Estimate valence and arousal for a batch of windows.

        Args:
            frames: Float [B, T, frame_dim], in the dtype of the parameters.
            frame_valid: Bool [B, T]; False for no face, padding, a failed frame.
            audio: Float [B, S, audio_dim].
            audio_valid: Bool [B, S]; False for padding and for a clip without sound.

        Returns:
            `HeadOutput`, one step per video step or, with `target="end"`, one for the window: the mean of F
            over all its steps goes through the same two linear layers (docs/method.md, settled 4 and R7).

        Raises:
            ValueError: A mask does not fit its features, or a "voice" head gets S other than T.
        """
        fused_BTD, gate_BT = self._fuse(frames, frame_valid, audio, audio_valid)
        if self.target == "end":
            fused_BTD = fused_BTD.mean(dim=1, keepdim=True)
            gate_BT = gate_BT.mean(dim=1, keepdim=True)
        return HeadOutput(self.output(fused_BTD), self.region_head(fused_BTD), gate_BT)

    def _fuse(self, frames: Tensor, frame_valid: Tensor, audio: Tensor, audio_valid: Tensor) -> tuple[Tensor, Tensor]:
        if self.modalities == "face":
            video_BTD = self.video(frames, frame_valid)
            return video_BTD, video_BTD.new_zeros(video_BTD.shape[:2])
        if self.modalities == "voice":
            # Labels belong to video steps; without video parameters nothing can bring other steps to them.
            if audio.shape[1] != frames.shape[1]:
                raise ValueError(f"a voice head needs S == T, got {audio.shape[1]} and {frames.shape[1]}")
            audio_BTD = self.audio(audio, audio_valid)
            return audio_BTD, audio_BTD.new_ones(audio_BTD.shape[:2])
        fused_BTD, gate_BTD = self.fusion(self.video(frames, frame_valid), self.audio(audio, audio_valid), audio_valid)
        return fused_BTD, gate_BTD.mean(dim=-1)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
