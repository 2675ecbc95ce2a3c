"""Settings of the evaluation. Standard library only, so that `va --help` stays quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from va.settings import argument, outside_digest, require


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How to score a run and what to show."""

    run: Path = argument()
    """Run directory that 'va train' printed."""

    out: Path = outside_digest()
    """Folder for index.html, metrics.json, predictions.csv and predictions.h5."""

    split: Literal["val", "test", "train"] = "val"
    """Split to score; without annotations it is predicted and nothing is scored."""

    compare: tuple[Path, ...] = ()
    """Other runs of the same corpus; the page and the terminal say whether the difference to each is real."""

    fill: Literal["nearest", "interpolate", "none"] = "interpolate"
    """How a frame without a prediction of its own gets one; none leaves it out, which lowers the coverage."""

    smooth: Literal["auto", "none", "median", "gaussian", "hamming"] = "auto"  # docs/method.md, settled 7
    """Kernel of the smoothed figures; auto takes the one with the best mean CCC on the clips that the run was
    selected on."""

    smooth_s: float = 0.0
    """Width of the kernel in seconds; 0 for the one with the best mean CCC on the selection clips."""

    label_shift_s: float = 0.0
    """Seconds by which labels come late; other than 0, no figure is the official score."""

    submission: Path | None = outside_digest(default=None)
    """Sample file of the ABAW challenge; writes submission.txt with exactly its frames in its order."""

    submit: Literal["auto", "raw", "smoothed"] = "auto"
    """Which predictions the submission holds; auto takes the smoothed ones where there are any."""

    robustness: bool = True
    """Score the run without sound, without faces and with shifted sound as well."""

    corpus: Path | None = outside_digest(default=None)
    """Corpus manifest, when it has moved since training."""

    features: Path | None = outside_digest(default=None)
    """Features folder, when it has moved since training."""

    resamples: int = 2000
    """Bootstrap resamples of clips for the 95% intervals."""

    device: str = outside_digest(default="auto")
    """auto, cpu, cuda or cuda:N; auto takes a GPU when there is one."""

    json: bool = outside_digest(default=False)
    """Print the figures as one JSON object instead of a table."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.resamples >= 1, option="--resamples", value=self.resamples, expected="at least 1")
        expected = "0 to 120 seconds, 0 for a width chosen on the selection clips"
        require(0 <= self.smooth_s <= 120, option="--smooth-s", value=self.smooth_s, expected=expected)
        expected = "0 together with '--smooth none'"
        require(self.smooth != "none" or not self.smooth_s, option="--smooth-s", value=self.smooth_s, expected=expected)
        expected = "-60 to 60 seconds"
        require(-60 <= self.label_shift_s <= 60, option="--label-shift-s", value=self.label_shift_s, expected=expected)
        expected = "auto or raw together with '--smooth none'"
        require(
            self.smooth != "none" or self.submit != "smoothed", option="--submit", value=self.submit, expected=expected
        )
        expected = "auto unless '--submission SAMPLE' is given"
        require(
            self.submission is not None or self.submit == "auto",
            option="--submit",
            value=self.submit,
            expected=expected,
        )
