"""`va doctor`: is everything there that the stages need, and if not, what to do."""

import importlib
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Final, Literal, NamedTuple

import av
import torch

from va import weights

_PACKAGES: Final = (
    "torch",
    "transformers",
    "open_clip_torch",
    "h5py",
    "numpy",
    "librosa",
    "av",
    "safetensors",
    "plotly",
)
_NEEDED_GB: Final = 5.0  # the demo writes well under 1 GB; weights of the paper's encoders take about 1 GB


class Check(NamedTuple):
    """One line of the table.

    Attributes:
        name: What was looked at.
        status: `ok`, `note` (works without) or `missing` (a stage cannot run).
        detail: What was found, or what to do.
    """

    name: str
    status: str
    detail: str


def run() -> list[Check]:
    """Look at everything; asks no network."""
    return [_python(), *_packages(), _torchvision(), _device(), _codecs(), *_weights(), _disk()]


def _python() -> Check:
    good = sys.version_info >= (3, 11)
    return Check("Python", "ok" if good else "missing", f"{platform.python_version()} (3.11 or newer)")


def _packages() -> list[Check]:
    return [Check(name, "ok", metadata.version(name)) for name in _PACKAGES]


def _torchvision() -> Check:
    """Try the import that fails where torch and torchvision were built apart; open_clip needs both."""
    try:
        version = importlib.import_module("torchvision").__version__
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        return Check("torchvision", "missing", f"{reason}; install a matching pair: pip install torch torchvision")
    return Check("torchvision", "ok", version)


def _device() -> Check:
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Check("GPU", "ok", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    return Check("GPU", "note", f"none; the CPU is used with {torch.get_num_threads()} threads")


def _codecs() -> Check:
    lacking = [f"{name} decoder" for name in ("h264", "hevc", "aac", "mp3") if not _can(name, "r")]
    lacking += [f"{name} encoder" for name in ("libx264", "aac") if not _can(name, "w")]
    if lacking:
        return Check("Codecs", "missing", f"no {', '.join(lacking)}; install PyAV from its wheel: pip install av")
    return Check("Codecs", "ok", f"h264, hevc, aac, mp3; encoders libx264, aac (FFmpeg in PyAV {av.__version__})")


def _can(codec: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.codec.Codec(codec, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def _weights() -> list[Check]:
    found = [
        Check(f"Weights of {name}", *(("ok", "in the package") if path.is_file() else ("missing", f"no {path}")))
        for name, path in (
            ("tiny-clip (demo)", weights.DEMO / "tiny-clip" / "model.safetensors"),
            ("tiny-ast (demo)", weights.DEMO / "tiny-ast" / "model.safetensors"),
        )
    ]
    for file in weights.HUB_FILES:
        path = weights.cached(file)
        detail = (
            f"{path}"
            if path
            else f"fetched on first use, or {file.option} PATH to {file.filename} of {file.repository}"
        )
        found.append(Check(f"Weights of {file.encoder}", "ok" if path else "note", detail))
    return found


def _disk() -> Check:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    return Check("Free disk here", "ok" if free_gb > _NEEDED_GB else "note", f"{free_gb:.0f} GB")
