"""What predicts: a trained run, or CLIP and texts alone. Both know which features they need and what these say.

The rest of the code about new videos (`video.py`, `va/api.py`) does not know which of the two it has.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch

from va.data.regions import REGION_TEXTS, TEMPLATES
from va.data.tuned import notes_on
from va.device import choose_device
from va.errors import VAError
from va.evaluate.media import cells, remarks, zero_shot
from va.evaluate.media.cells import Answer, Features, Floats
from va.extract import encoders
from va.extract.config import RUN, ExtractConfig
from va.extract.encoders import Encoder
from va.extract.prompts import check_templates, read_texts
from va.model.prompts import region_centers
from va.train import encoding
from va.train.checkpoint import Run
from va.train.encoding import Faces

LOUDNESS: Final = "loudness"
BOX: Final = "face-box"
"""Trivial encoders that run beside: is there anything to hear, and where is the face?"""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunPredictor:
    """A trained run.

    Args:
        run: The run.
        settings: From `encoding.settings_for`, but for `corpus` and `out`; None for one who brings features.
        device: Where to compute.

    Attributes:
        source: What kind of predictor it is.
        hears: Whether its second encoder is one of sound.
        name: What it is called on pages.
        config: `settings`.
        loaded: Its encoders: frames first, then audio, then trivial ones.
        centers: float64 [R, 2], valence and arousal of the regions.
        texts: [R].
        has_regions: Whether it says anything about regions.
        is_demo: A demo encoder takes part.
        windows_s: Length and distance in seconds of the windows of whose ends it speaks; None if of every cell.
        provenance: Keys and values for whoever asks where numbers come from.
    """

    run: Run
    settings: ExtractConfig | None
    device: torch.device

    source: Literal["run", "zero-shot"] = "run"
    hears: bool = True

    @property
    def name(self) -> str:
        """The run directory's name."""
        return self.run.directory.absolute().name

    @property
    def config(self) -> ExtractConfig:
        """Settings of stage one."""
        assert self.settings is not None  # the caller brings features otherwise
        return self.settings

    @cached_property
    def loaded(self) -> Sequence[Encoder]:
        """Loaded when first asked for.

        Raises:
            VAError: Weights are missing, or others than those that made the run's features.
        """
        # Texts that the run has learned from are in its head; the text tower is not asked again.
        pair = [
            dataclasses.replace(each, prototypes=None)
            for each in encoding.load(self.run, self.config, device=self.device)
        ]
        return _with_trivial(pair, self.config, self.device)

    @cached_property
    def centers(self) -> Floats:
        """Centres of the regions."""
        return region_centers(self.run.config.axes).double().numpy()

    @property
    def texts(self) -> Sequence[str]:
        """Texts of the regions."""
        return tuple(self.run.info["region_texts"])

    @property
    def has_regions(self) -> bool:
        """Whether the run was trained with the region term."""
        return self.run.has_regions

    @property
    def windows_s(self) -> tuple[float, float] | None:
        """For a run with `--target end`."""
        config = self.run.config
        return (config.window_s, config.stride_s) if config.target == "end" else None

    @property
    def is_demo(self) -> bool:
        """Whether a demo encoder takes part."""
        return bool(self.run.info["demo_encoders"])

    @property
    def provenance(self) -> list[tuple[str, str]]:
        """Where its numbers come from."""
        info = self.run.info
        named = [(kind, encoding_name(info["encoders"][kind])) for kind in ("face", "voice")]
        return [
            ("run", self.name),
            ("trained on", str(info["corpus"]["name"])),
            *((f"{kind} encoder", name) for kind, name in named),
            ("heads averaged", str(max(1, self.run.members))),
            ("va at training", str(info["versions"]["va"])),
        ]

    def answer(self, features: Features) -> Answer:
        """Say what features say, with remarks on them; `remarks.of_model` has those on the run.

        Raises:
            VAError: The features do not fit the run.
        """
        series = cells.ask(self.run, features, device=self.device)
        found = cells.answer(features, series, regions=len(self.centers) if self.has_regions else 0)
        said = remarks.of_run(self.run, self.settings, found)
        return dataclasses.replace(found, notes=tuple(said))


@dataclass(frozen=True, kw_only=True, eq=False)
class ZeroShot:
    """CLIP and texts; attributes as in `RunPredictor`."""

    config: ExtractConfig
    clip: Encoder
    centers: Floats
    texts: Sequence[str]
    templates: Sequence[str]
    scale: float
    device: torch.device

    source: Literal["run", "zero-shot"] = "zero-shot"
    hears: bool = False
    has_regions: bool = True
    windows_s: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The encoder's."""
        return f"zero-shot, {self.clip.name}"

    @cached_property
    def loaded(self) -> Sequence[Encoder]:
        """As in `RunPredictor`."""
        return _with_trivial([dataclasses.replace(self.clip, prototypes=None)], self.config, self.device)

    @property
    def is_demo(self) -> bool:
        """As in `RunPredictor`."""
        return bool(self.clip.identity["demo"])

    @property
    def provenance(self) -> list[tuple[str, str]]:
        """As in `RunPredictor`."""
        return [
            ("method", "softmax of scaled cosines with text prototypes, no training"),
            ("face encoder", encoding_name(self.clip.identity)),
            ("scale", f"{self.scale:g}"),
            ("templates", " | ".join(self.templates)),
        ]

    @cached_property
    def _prototypes(self) -> Any:
        assert self.clip.prototypes is not None  # checked when it was made
        return self.clip.prototypes(self.texts, self.templates)

    def answer(self, features: Features) -> Answer:
        """As in `RunPredictor`."""
        series = zero_shot.read(features.face, prototypes=self._prototypes, centers=self.centers, scale=self.scale)
        found = cells.answer(features, series, regions=len(self.centers))
        return dataclasses.replace(found, notes=tuple(remarks.of_zero_shot(self.config, found)))


AnyPredictor: TypeAlias = RunPredictor | ZeroShot


def for_run(
    run: Run,
    *,
    faces: Faces,
    face_weights: Path | None,
    clip_weights: Path | None,
    ast_weights: Path | None,
    device: str,
) -> RunPredictor:
    """Make a run ready for new videos; encoders are loaded when they are first needed.

    Args:
        run: The run.
        faces: As in `encoding.settings_for`, like all that follow.
        face_weights: See there.
        clip_weights: See there.
        ast_weights: See there.
        device: See there.

    Raises:
        VAError: The run's features were imported, or there is no such device.
    """
    nowhere = Path()
    config = encoding.settings_for(
        run,
        corpus=nowhere,
        out=nowhere,
        faces=faces,
        clip_weights=clip_weights,
        ast_weights=ast_weights,
        face_weights=face_weights,
        device=device,
    )
    return RunPredictor(run=run, settings=config, device=choose_device(device))


def for_texts(
    *,
    encoder: str,
    texts: Path | None,
    centers: tuple[float, ...],
    scale: float,
    faces: Faces,
    face_weights: Path | None,
    clip_weights: Path | None,
    device: str,
) -> ZeroShot:
    """Make CLIP ready for zero-shot prediction.

    Args:
        encoder: Its name.
        texts: A file as `va prompts` reads it, or None for the default texts.
        centers: Along both axes, rising.
        scale: Before the softmax.
        faces: `auto` looks for faces, because the texts speak of them.
        face_weights: As in `va extract`.
        clip_weights: As in `va extract`.
        device: As in `va extract`.

    Raises:
        VAError: No such encoder, no text tower, weights that are missing, or another number of texts than of regions.
    """
    words, templates = (REGION_TEXTS, TEMPLATES) if texts is None else read_texts(texts)
    templates = templates or TEMPLATES
    check_templates(templates)
    if len(words) != len(centers) ** 2:
        raise VAError(
            f"--texts: {len(words)} texts, but --centers makes {len(centers)} x {len(centers)} regions",
            "Write one text per region, valence low to high and, inside each, arousal low to high.",
        )
    without = VAError(f"--encoder: '{encoder}' has no text tower", "Name a CLIP encoder, e.g. clip-vit-b-16.")
    if not (encoder.startswith(RUN) or encoders.has_text_tower(encoder)):
        raise without
    config = ExtractConfig(
        corpus=Path(),
        out=Path(),
        encoders=(encoder,),
        clip_weights=clip_weights,
        face_weights=face_weights,
        faces="detect" if faces == "auto" else faces,
        device=device,
    )
    placed = choose_device(device)
    loaded = encoders.build_all((encoder,), config=config, device=placed)
    clip = next((each for each in loaded if each.prototypes is not None), None)
    if clip is None:
        raise without
    return ZeroShot(
        config=config,
        clip=clip,
        centers=np.asarray(region_centers(centers).double().numpy()),
        texts=words,
        templates=templates,
        scale=scale,
        device=placed,
    )


def encoding_name(identity: dict[str, Any]) -> str:
    """Name an encoder for people: its name, its weights' first digits, what it was made from, if for show only."""
    return f"{identity['encoder']} ({', '.join([str(identity.get('weights', 'none'))[:8], *notes_on(identity)])})"


def _with_trivial(loaded: list[Encoder], config: ExtractConfig, device: torch.device) -> list[Encoder]:
    wanted = [LOUDNESS] + ([BOX] if config.faces == "detect" else [])
    there = {encoder.name for encoder in loaded}
    return loaded + [encoders.build(name, config=config, device=device) for name in wanted if name not in there]
