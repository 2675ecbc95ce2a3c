"""Valence and arousal over time from video and sound.

    import va

    run = va.load("runs/gru-hierarchical-1a2b3c4d")
    answer = run.predict("talk.mp4")

Importing this package is cheap on purpose: NumPy, torch and transformers load only when a stage runs.
"""

from typing import TYPE_CHECKING, Literal

from va.version import __version__

if TYPE_CHECKING:
    from os import PathLike

    from va.api import Predictor

__all__ = ["__version__", "from_pretrained", "load"]


def load(
    run: "str | PathLike[str]",
    *,
    faces: Literal["auto", "none", "detect"] = "auto",
    device: str = "auto",
    clip_weights: "str | PathLike[str] | None" = None,
    ast_weights: "str | PathLike[str] | None" = None,
    face_weights: "str | PathLike[str] | None" = None,
) -> "Predictor":
    """Load a trained run; see `va.api.Predictor` for what it can do.

    Args:
        run: Run directory that 'va train' printed.
        faces: Which pictures it is shown: as its features were made (`auto`), whole frames, or the face that a detector
            finds and follows.
        device: auto, cpu, cuda or cuda:N; auto takes a GPU when there is one.
        clip_weights: CLIP weights as an open_clip .safetensors file, for machines that reach no model hub.
        ast_weights: AST weights: a folder with config.json and model.safetensors, likewise.
        face_weights: Another face detector: a YuNet .onnx file for OpenCV.

    Raises:
        va.errors.VAError: Not a finished run, of another version, or damaged; or there is no such device.
    """
    from va.api import Predictor

    return Predictor(
        run,
        faces=faces,
        device=device,
        clip_weights=clip_weights,
        ast_weights=ast_weights,
        face_weights=face_weights,
    )


def from_pretrained(
    repo_id: str,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    cache_dir: "str | PathLike[str] | None" = None,
    faces: Literal["auto", "none", "detect"] = "auto",
    device: str = "auto",
    clip_weights: "str | PathLike[str] | None" = None,
    ast_weights: "str | PathLike[str] | None" = None,
    face_weights: "str | PathLike[str] | None" = None,
) -> "Predictor":
    """Load a run that 'va push' shared, downloaded through the Hugging Face hub's client; nothing in it can execute.

    Args:
        repo_id: `owner/name`.
        revision: Branch, tag or commit; None for the main branch. A commit gives the same weights for ever.
        local_files_only: Ask no network, as with HF_HUB_OFFLINE=1.
        cache_dir: Where to keep it; None for the hub client's own cache.
        faces: As in `load`, like all that follow.
        device: See there.
        clip_weights: See there.
        ast_weights: See there.
        face_weights: See there.

    Raises:
        va.errors.VAError: No such repository, not a head of va, not allowed, or out of reach.
    """
    from pathlib import Path

    from va import hub

    run = hub.fetch(
        repo_id,
        revision=revision,
        local_files_only=local_files_only,
        cache_dir=None if cache_dir is None else Path(cache_dir),
        endpoint=None,
    )
    return load(
        run,
        faces=faces,
        device=device,
        clip_weights=clip_weights,
        ast_weights=ast_weights,
        face_weights=face_weights,
    )
