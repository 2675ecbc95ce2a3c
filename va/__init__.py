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

__all__ = ["__version__", "load"]


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
