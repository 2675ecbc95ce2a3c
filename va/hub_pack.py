"""What a shared head consists of, made from a run: weights, a `run.json` for others, and a model card."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from va import bounded, files, hub_card
from va.data import tuned
from va.errors import VAError

FILES: Final = ("model.safetensors", "run.json", "README.md")
"""What a shared head consists of."""

_ENCODER_FILES: Final = ("open_clip_model.safetensors", "model.safetensors", "config.json", "preprocessor_config.json")
TUNED: Final = tuple(f"{tuned.FOLDER}/{kind}/{name}" for kind in tuned.KINDS for name in _ENCODER_FILES)
"""What may be beside them: the files of fine-tuned encoders."""

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATH: Final = re.compile(r"""(?:^|[\s:='"(,])(?:/[^/\s]+/|~[\w-]*/|[A-Za-z]:[\\/]|\\\\|file:)""")
"""What an absolute path looks like inside a text."""

_KEPT: Final = (
    "schema",
    "created",
    "config",
    "identity",
    "shape",
    "members",
    "encoders",
    "demo_encoders",
    "finetuned_from",
    "region_texts",
    "prototypes",
    "epochs",
    "versions",
)
"""Parts of `run.json` that are shared as they are, but for paths in its config."""

_PLACES: Final = {"corpus": "corpus", "features": "features", "out": "runs", "device": "auto", "tensorboard": False}
"""What stands in a shared config for settings of the machine it was trained on."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What would be uploaded, by file name.

    Args:
        contents: The head and what is said of it.
        encoders: Where the files of its fine-tuned encoders are, which are large; empty for a head on other encoders.
    """

    contents: dict[str, bytes]
    encoders: dict[str, Path]

    def sizes(self) -> dict[str, int]:
        """Bytes of every file, by name."""
        own = {name: len(content) for name, content in self.contents.items()}
        return own | {name: path.stat().st_size for name, path in self.encoders.items()}


def pack(run: Path, *, repo_id: str, license_name: str, metrics: Path | None, verified: bool) -> Packed:
    """Make the files of a shared head; asks no network.

    Args:
        run: A finished run, or an ensemble.
        repo_id: Where it will be, for the card's examples.
        license_name: License of the weights as the hub spells it, e.g. `mit`; empty when none is stated.
        metrics: A report's folder that `va evaluate` made of this run, or None.
        verified: The user states that the figures were verified on Aff-Wild2.

    Raises:
        VAError: Not a finished run, its fine-tuned encoders are not there, a path of this machine would be shared, the
            report is of another run or holds no official score, or there is nothing that could have been verified.
    """
    check_repository(repo_id)
    info = bounded.read_json(
        run / "run.json", what="a finished run", hint="Give a run directory that 'va train' printed."
    )
    # Loading proves that weights and description belong together, before anybody downloads them.
    from va.train import checkpoint

    checkpoint.load_run(run)
    encoders = _encoders(run, info)
    shared = shareable(info)
    _refuse_paths(shared)
    report = read_report(metrics, run=run.name) if metrics is not None else None
    if verified:
        _refuse_unverifiable(report)
    card = hub_card.write(
        shared,
        counts=shared["counts"],
        repo_id=repo_id,
        license_name=license_name,
        report=report,
        verified=verified,
        encoder_bytes=sum(path.stat().st_size for path in encoders.values()),
    )
    return Packed(
        contents={
            "model.safetensors": (run / "model.safetensors").read_bytes(),
            "run.json": (json.dumps(shared, indent=2) + "\n").encode(),
            "README.md": card.encode(),
        },
        encoders=encoders,
    )


def save(packed: Packed, folder: Path) -> None:
    """Write a packed head into a folder instead of sending it, each file whole or not at all.

    Raises:
        VAError: The folder cannot be written.
    """
    for name, content in packed.contents.items():
        files.write_bytes(folder / name, content)
    for name, path in packed.encoders.items():
        with files.replacing(folder / name) as temporary:
            shutil.copyfile(path, temporary)


def _encoders(run: Path, info: Mapping[str, Any]) -> dict[str, Path]:
    """List the files of a run's fine-tuned encoders, by their names in a shared head; whole, and the run's own."""
    found = {}
    for kind in tuned.KINDS:
        identity = info["encoders"][kind]
        if "tuned" not in identity:
            continue
        folder = tuned.find(tuned.places_of(run, info, kind=kind, given=None), identity, kind=kind, whose=run)
        for name in identity["tuned"]["files"]:
            found[f"{tuned.FOLDER}/{kind}/{name}"] = folder / name
    other = sorted(set(found) - set(TUNED))
    if other:
        raise VAError(f"{run}: {other[0]} is no file that is shared", f"Only {', '.join(_ENCODER_FILES)} are.")
    return found


def shareable(info: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a `run.json` what others may see and need: no path, no device, no name of a clip.

    Args:
        info: `run.json`.

    Returns:
        What `checkpoint.load_run` reads. Lists of clips are empty, since names of recordings can name people; "counts"
        says how many there were.
    """
    found = {name: info[name] for name in _KEPT if name in info}
    found["config"] = {**info["config"], **_PLACES}
    if "finetune" in info:  # its other settings are the head's, or places
        found["finetune"] = {name: info["finetune"][name] for name in tuned.RECIPE if name in info["finetune"]}
    found["corpus"] = {"name": info["corpus"]["name"], "path": "", "synthetic": info["corpus"]["synthetic"]}
    found["features"] = {kind: Path(path).name for kind, path in info["features"].items()}
    chosen = info["selection"]
    found["selection"] = {name: chosen[name] for name in ("split", "epoch", "ccc_mean")} | {"clips": []}
    found["train_clips"] = []
    found["counts"] = _counts(info)
    return found


def read_report(folder: Path, *, run: str) -> dict[str, Any]:
    """Read a report's figures.

    Args:
        folder: Where `va evaluate --out` wrote it.
        run: The run's directory name.

    Raises:
        VAError: It has no figures, those of another run, or such as are no score: on shifted labels, on a part of the
            frames, or on clips that were trained on.
    """
    hint = "Give the folder that 'va evaluate RUN --out DIR' wrote for this run."
    found = bounded.read_json(folder / "metrics.json", what="a report's figures", hint=hint)
    if found.get("run") != run:
        raise VAError(f"{folder}: reports on '{found.get('run')}', not on '{run}'", hint)
    try:
        score = found["rows"][0]["abaw"]
        wanted = [score[name][key] for name in hub_card.NAMES for key in ("value", "low", "high")]
        wanted += [score["num_clips"], score["num_frames"], score["coverage"]]
        complete = all(isinstance(value, int | float) for value in wanted if value is not None)
        complete &= all(isinstance(found[name], str) for name in ("corpus", "split"))
        complete &= all(isinstance(sentence, str) for sentence in found.get("warnings", ()))
        complete &= isinstance(found["synthetic"], bool) and isinstance(found["label_shift_s"], int | float)
    except (KeyError, TypeError, IndexError):
        complete = False
    if not complete:
        raise VAError(f"{folder / 'metrics.json'}: is not a report's figures", hint)
    _refuse_flattered(found, folder)
    return found


def _refuse_flattered(found: Mapping[str, Any], folder: Path) -> None:
    """Check that a report's figures are what a card calls them."""
    again = "Give the folder of a report that 'va evaluate' wrote"
    if found["label_shift_s"]:
        raise VAError(
            f"{folder}: its labels were shifted by {found['label_shift_s']:g} s, so no figure is the official score",
            f"{again} without --label-shift-s.",
        )
    coverage = found["rows"][0]["abaw"]["coverage"]
    if coverage is None or coverage < 1:
        share = "not any" if coverage is None else f"{coverage:.3%}"
        raise VAError(
            f"{folder}: covers {share} of the labelled frames, so no figure is the official score",
            f"{again} without '--fill none', of a split with labels.",
        )
    if found["split"] == "train":
        raise VAError(f"{folder}: scores the train split, which the run learned from", f"{again} of another split.")


def _refuse_unverifiable(report: Mapping[str, Any] | None) -> None:
    """Check that there are figures which can have been verified on Aff-Wild2."""
    option, hint = "--verified-on-affwild2", "Leave it out, or give the report on Aff-Wild2 with --metrics."
    if report is None:
        raise VAError(f"{option}: there are no scores to state it of", hint)
    if report["synthetic"]:
        raise VAError(f"{option}: the scores are of the synthetic corpus '{report['corpus']}'", hint)


def _counts(info: Mapping[str, Any]) -> dict[str, int]:
    """Count the clips of a run; one that was shared before says how many it had."""
    if "counts" in info:
        return {name: int(info["counts"][name]) for name in ("train", "selection")}
    return {"train": len(info["train_clips"]), "selection": len(info["selection"]["clips"])}


def _texts(value: object, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, where)


def _refuse_paths(shared: Mapping[str, Any]) -> None:
    """Check that no text of a shared `run.json` holds a path, e.g. an encoder that was named by its folder."""
    for where, value in _texts(shared, ""):
        if _PATH.search(value):
            raise VAError(
                f"run.json: {where} names a path of this machine ('{value}'), which would be made public",
                "Extract with the encoder's hub name (hf:owner/name) or import under another name, and train again.",
            )


def check_repository(repo_id: str) -> None:
    """Check that a repository is named as owner/name.

    Raises:
        VAError: It is not.
    """
    if not _REPOSITORY.fullmatch(repo_id) or ".." in repo_id or "--" in repo_id:
        raise VAError(f"'{repo_id}' is not a repository of the hub", "Write it as owner/name.")
