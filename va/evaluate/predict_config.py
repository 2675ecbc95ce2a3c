"""Settings of `va predict`. Standard library only, so that `va --help` stays quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from va.data.regions import CENTERS
from va.errors import VAError
from va.settings import argument, outside_digest, require

_OF_FILES: Final = ("video", "smooth", "smooth_s", "readers", "stall_s", "memory_gb", "json")
"""Settings of whole files, which a stream is not: it is decoded in the command's own process, without limits."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Which videos to predict, with what, and what to write."""

    inputs: tuple[Path, ...] = argument(label="RUN VIDEO")
    """A run directory that 'va train' printed and then any number of videos; with --zero-shot only videos."""

    out: Path | None = outside_digest(default=None)
    """Folder for each video's <name>.csv and <name>.html, and for predict.json (required without --stream)."""

    stream: bool = False
    """Read one video while it comes, or standard input (-), and print a line of JSON for every step at once: valence,
    arousal and more of the step's end, from nothing later, and how long that took. Writes no files."""

    step_s: float = 0.5
    """Distance of the answers of --stream in seconds, a multiple of half a second."""

    realtime: bool = False
    """Let the packets of a file come by its own clock in --stream, as a camera's would: steps for which there was no
    time are left out, as they always are from standard input."""

    zero_shot: bool = False
    """Predict without a run: compare pictures with region texts by CLIP. Never trained on valence and arousal."""

    faces: Literal["auto", "none", "detect"] = "auto"
    """Which pictures are looked at: as the run's features were made (auto; faces with --zero-shot), whole frames (none)
    or the face that a detector finds and follows (detect)."""

    face_weights: Path | None = outside_digest(default=None)
    """Another face detector: a YuNet .onnx file for OpenCV; by default the CenterFace file in the package."""

    clip_weights: Path | None = outside_digest(default=None)
    """CLIP weights as an open_clip .safetensors file, for machines that reach no model hub."""

    ast_weights: Path | None = outside_digest(default=None)
    """AST weights: a folder with config.json and model.safetensors, for machines that reach no model hub."""

    encoder: str = "clip-vit-b-16"
    """CLIP encoder of --zero-shot, as in 'va extract --encoders'; tiny-clip is the DEMO encoder."""

    texts: Path | None = None
    """Region texts of --zero-shot, as in 'va prompts --texts'; by default those that heads are trained with."""

    centers: tuple[float, ...] = CENTERS
    """Region centres along both axes for --zero-shot; there are as many texts as pairs of them."""

    scale: float = 10.0  # docs/method.md, R4
    """Scale of the cosines before the softmax in --zero-shot: 10 as in the code of the paper's authors, 100
    about CLIP's own."""

    video: Literal["embed", "link", "none"] = "embed"
    """How a page holds its video: inside it, as a reference to the file, or not at all."""

    smooth: Literal["none", "median", "gaussian", "hamming"] = "none"
    """Kernel of a smoothed curve beside the raw one."""

    smooth_s: float = 3.0
    """Width of the kernel in seconds."""

    device: str = outside_digest(default="auto")
    """auto, cpu, cuda or cuda:N; auto takes a GPU when there is one."""

    readers: int = outside_digest(default=0)
    """Processes that decode, each one video at a time; 0 for one per processor core, at most 16."""

    stall_s: float = outside_digest(default=120.0)
    """Seconds without progress after which a decoder counts as hung; that costs its video only."""

    memory_gb: float = outside_digest(default=4.0)
    """Memory that decoding one video may take, in GB."""

    keep_features: Path | None = outside_digest(default=None)
    """Folder to keep the videos' features in; by default they are thrown away."""

    json: bool = outside_digest(default=False)
    """Print one JSON object instead of a table."""

    def __post_init__(self) -> None:
        """Check ranges, and that there is something to predict."""
        require(self.scale > 0, option="--scale", value=self.scale, expected="a positive number")
        require(self.smooth_s > 0, option="--smooth-s", value=self.smooth_s, expected="a positive number of seconds")
        if self.smooth == "none" and self.smooth_s != type(self).smooth_s:
            raise VAError("--smooth-s: nothing is smoothed", "Give --smooth median, gaussian or hamming too.")
        require(0 <= self.readers <= 256, option="--readers", value=self.readers, expected="a number from 0 to 256")
        require(self.stall_s > 0, option="--stall-s", value=self.stall_s, expected="a positive number of seconds")
        require(self.memory_gb > 0, option="--memory-gb", value=self.memory_gb, expected="a positive number of GB")
        rising = all(low < high for low, high in zip(self.centers, self.centers[1:], strict=False))
        require(bool(self.centers) and rising, option="--centers", value=self.centers, expected="rising numbers")
        if not self.videos:
            raise VAError(
                "RUN VIDEO: no video is named", "Give a run directory and then videos, or --zero-shot and only videos."
            )
        self._check_stream()
        for name in () if self.zero_shot else ("encoder", "texts", "centers", "scale"):
            if getattr(self, name) != getattr(type(self), name):
                raise VAError(f"--{name}: is for --zero-shot only", f"A run brings its own; leave --{name} out.")

    def _check_stream(self) -> None:
        whole = self.step_s > 0 and float(self.step_s * 2).is_integer()
        require(whole, option="--step-s", value=self.step_s, expected="a positive multiple of half a second")
        if not self.stream:
            if Path("-") in self.videos:
                raise VAError("-: standard input is for --stream only", "Add --stream, or name a file.")
            if self.out is None:
                raise VAError("--out is missing", "Give a folder for the results, or --stream to print them.")
            if self.realtime:
                raise VAError("--realtime: is for --stream only", "Add --stream, or leave --realtime out.")
            return
        if self.zero_shot:
            raise VAError("--stream: needs a run", "Leave --zero-shot out and give a run directory, then the source.")
        if len(self.videos) != 1:
            raise VAError(f"--stream: {len(self.videos)} videos are named", "Give one, or - for standard input.")
        if self.out is not None or self.keep_features is not None:
            raise VAError("--stream: writes no files", "Leave --out and --keep-features out; redirect what is printed.")
        for name in _OF_FILES:
            if getattr(self, name) != getattr(type(self), name):
                raise VAError(f"--{name.replace('_', '-')}: does nothing with --stream", "Leave it out.")

    @property
    def folder(self) -> Path:
        """Where results go; there is one without `stream`."""
        assert self.out is not None
        return self.out

    @property
    def run(self) -> Path | None:
        """The run directory; None with `zero_shot`."""
        return None if self.zero_shot else self.inputs[0]

    @property
    def videos(self) -> tuple[Path, ...]:
        """The videos."""
        return self.inputs if self.zero_shot else self.inputs[1:]
