"""What fine-tuning begins with: a trained run, or a head at random on encoders as they are published."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from va.data.corpus import Clip, Corpus
from va.data.regions import REGION_TEXTS, TEMPLATES
from va.errors import VAError
from va.extract import encoders
from va.extract.config import BASELINES, ExtractConfig
from va.extract.encoders import Encoder
from va.train import checkpoint, encoding
from va.train.checkpoint import Run
from va.train.config import TrainConfig
from va.train.data import AUDIO_PICTURES, Division, divide
from va.train.encoding import Pair
from va.train.finetune_config import HEAD, TRAINING, FinetuneConfig

_STAGE_ONE = ("readers", "stall_s", "memory_gb")


@dataclass(frozen=True, kw_only=True)
class Start:
    """Everything that training begins with.

    Args:
        corpus: The corpus.
        config: The head's settings, as the run directory will hold them; `features` is not known yet.
        stage_one: Settings that encode media as the encoders expect.
        pair: The encoders, in evaluation mode on the device.
        shape: Sizes of the head, as in `run.json`.
        weights: The head's state dict.
        region_texts: One per region.
        prototypes: Whose texts they are, as in `run.json`; None for those of the frame encoder itself.
        division: Clips to learn from, and to choose the epoch on.
        selected_on: Name of what chooses the epoch.
        run: The run that was started from, or None.
        notes: What the user should know.
    """

    corpus: Corpus
    config: TrainConfig
    stage_one: ExtractConfig
    pair: Pair
    shape: dict[str, Any]
    weights: dict[str, Tensor]
    region_texts: tuple[str, ...]
    prototypes: dict[str, Any] | None
    division: Division
    selected_on: str
    run: Run | None
    notes: tuple[str, ...]


def begin(config: FinetuneConfig, *, device: torch.device) -> Start:
    """Open all that training begins with, and check that it fits together.

    Raises:
        VAError: Corpus, run or weights are missing or do not fit.
    """
    corpus = Corpus.load(config.corpus)
    return _from_run(config, corpus, device) if config.start is not None else _from_scratch(config, corpus, device)


def _from_run(config: FinetuneConfig, corpus: Corpus, device: torch.device) -> Start:
    assert config.start is not None
    run = checkpoint.load_run(config.start)
    if run.members:
        raise VAError(
            f"--from: {run.directory} is an ensemble of {run.members} heads, which do not share their encoders",
            f"Start from one of its members: {', '.join(map(str, run.info['members'][:3]))}.",
        )
    if any(identity.get("imported") for identity in run.info["encoders"].values()):
        raise VAError(
            f"--from: {run.directory} was trained on imported features, and no encoder is known that makes them",
            "Start from a run on features of 'va extract'.",
        )
    division, notes = _division_of(run, corpus)
    stage_one = _stage_one(config, run)
    head = dataclasses.replace(
        run.config,
        corpus=config.corpus,
        seed=run.config.seed if config.seed is None else config.seed,
        precision="float32",
        tensorboard=False,
        face_encoder="",
        voice_encoder="",
        prototypes_from="",
        **{name: getattr(config, name) for name in TRAINING},
    )
    if run.config.context:
        notes.append("the run's learned context stays as it is: its text tower has no part in fine-tuning")
    made_in = {identity["compute_dtype"] for identity in run.info["encoders"].values()} - {"float32"}
    if made_in:
        notes.append(
            f"the run's features were computed in {', '.join(sorted(made_in))}; validation and the features at the end "
            "are computed in float32"
        )
    return Start(
        corpus=corpus,
        config=head,
        stage_one=stage_one,
        pair=encoding.load(_plain(run), stage_one, device=device),
        shape=run.info["shape"],
        weights=run.head.state_dict(),
        region_texts=tuple(run.info["region_texts"]),
        prototypes=run.info.get("prototypes"),
        division=division,
        selected_on=run.info["selection"].get("split", run.config.select_on),
        run=run,
        notes=tuple(notes),
    )


def _division_of(run: Run, corpus: Corpus) -> tuple[Division, list[str]]:
    """Divide clips as the run did, so that the epoch is chosen on people whom neither it nor this training learns.

    Raises:
        VAError: Clips that the run learned from would choose the epoch.
    """
    if run.info["identity"].get("corpus") != corpus.digest():
        note = (
            f"{corpus.name} is not the corpus that {run.directory.name} was trained on, so dev is drawn anew; people "
            "in it whom that run has learned make its scores too good"
        )
        return divide(run.config, corpus), [note]
    clips = {clip.id: clip for clip in corpus.clips}
    chosen = run.info["selection"].get("clips", ())
    learned = run.info.get("train_clips", ())
    if not chosen or not learned:  # a shared run keeps no names; its settings give them again
        return divide(run.config, corpus), []
    division = Division(train=_named(clips, learned), selection=_named(clips, chosen))
    if set(learned) & set(chosen):
        raise VAError(f"--from: {run.directory} chose its epoch on clips that it learned from", "Start from another.")
    return division, []


def _named(clips: dict[str, Clip], names: list[str]) -> tuple[Clip, ...]:
    return tuple(clips[name] for name in names)


def _stage_one(config: FinetuneConfig, run: Run) -> ExtractConfig:
    """Give the settings that made the run's features."""
    made = encoding.settings_for(
        run,
        corpus=config.corpus,
        out=config.features or Path("features"),
        faces="auto",
        clip_weights=config.clip_weights,
        ast_weights=config.ast_weights,
        face_weights=config.face_weights,
        device=config.device,
    )
    cut = run.info["encoders"]["face"]["sampling"].get("faces", {}).get("mode") == "crops"
    return dataclasses.replace(
        made,
        compile=False,
        precision="float32",
        faces="crops" if cut else made.faces,
        crops=config.crops if cut else None,
        **{name: getattr(config, name) for name in _STAGE_ONE},
    )


def _plain(run: Run) -> Run:
    """Take encoders for what learns: not compiled, and in float32, whatever they made the run's features in.

    They differ from the run's by rounding. One that computes in 16 bit by itself would do so whatever --precision says.
    """
    plain = {
        kind: {name: value for name, value in identity.items() if name != "compiled"} | {"compute_dtype": "float32"}
        for kind, identity in run.info["encoders"].items()
    }
    return dataclasses.replace(run, info={**run.info, "encoders": plain})


def _from_scratch(config: FinetuneConfig, corpus: Corpus, device: torch.device) -> Start:
    head = TrainConfig(
        corpus=config.corpus,
        features=Path("features"),
        seed=config.seed or 0,
        **{name: getattr(config, name) for name in TRAINING},
        **config.given(HEAD),  # type: ignore[arg-type]
    )
    names = ("preset", "encoders", "faces", "face_margin", "window_s", "stride_s")
    stage_one = ExtractConfig(
        corpus=config.corpus,
        out=config.features or Path("features"),
        clip_weights=config.clip_weights,
        ast_weights=config.ast_weights,
        crops=config.crops,
        face_weights=config.face_weights,
        device=config.device,
        **{name: getattr(config, name) for name in _STAGE_ONE},
        **config.given(names),  # type: ignore[arg-type]
    )
    division = divide(head, corpus)
    pair = _build(stage_one, device)
    texts, values = _prototypes(head, pair.face)
    shape = {
        "frame_dim": pair.face.dim,
        "audio_dim": pair.voice.dim,
        "audio_cnn": pair.voice.name == AUDIO_PICTURES,
        "num_regions": len(texts),
        "text_dim": values.shape[1],
    }
    return Start(
        corpus=corpus,
        config=head,
        stage_one=stage_one,
        pair=pair,
        shape=shape,
        weights=new_head(head, shape, torch.from_numpy(values)),
        region_texts=texts,
        prototypes=None if pair.face.prototypes is not None else {"source": "", "borrowed": False},
        division=division,
        selected_on=head.select_on,
        run=None,
        notes=(),
    )


def new_head(config: TrainConfig, shape: dict[str, Any], prototypes: Tensor) -> dict[str, Tensor]:
    """Draw a head's first weights as `va train` does with the same seed."""
    torch.manual_seed(config.seed)
    head = checkpoint.make_head(config, shape, prototypes=prototypes)
    return head.state_dict()


def _build(stage_one: ExtractConfig, device: torch.device) -> Pair:
    """Load the two encoders that are chosen; a preset's baselines have nothing that learns.

    Raises:
        VAError: They are not one for pictures and one for sound.
    """
    names = [name for name in stage_one.chosen if stage_one.encoders or name not in BASELINES]
    built = encoders.build_all(names, config=stage_one, device=device)
    kinds = {encoder.kind: encoder for encoder in built}
    if len(built) != 2 or len(kinds) != 2:
        raise VAError(
            f"--encoders: {', '.join(names)} are not one frame encoder and one audio encoder",
            "Name two, e.g. clip-vit-b-16,ast.",
        )
    return Pair(face=kinds["frames"], voice=kinds["audio"])


def _prototypes(config: TrainConfig, face: Encoder) -> tuple[tuple[str, ...], np.ndarray[Any, Any]]:
    """Embed the region texts by the frame encoder's own text tower (F9).

    Raises:
        VAError: It has none, or the grid has another number of regions than there are texts.
    """
    valence, arousal = config.axes
    regions = len(valence) * len(arousal)
    if face.prototypes is None:
        if config.region_weight:
            raise VAError(
                f"'{face.name}' has no text tower for the region term",
                "Give --region-weight 0, or train a head with another encoder's texts and name it with --from.",
            )
        names = tuple(f"no text (valence {v:g}, arousal {a:g})" for v in valence for a in arousal)
        return names, np.eye(regions, dtype=np.float32)
    if regions != len(REGION_TEXTS):
        raise VAError(
            f"--centers: {regions} regions, but there are {len(REGION_TEXTS)} texts",
            "Give three centres on each axis, or train a head with your own texts and name it with --from.",
        )
    return REGION_TEXTS, face.prototypes(REGION_TEXTS, TEMPLATES)
