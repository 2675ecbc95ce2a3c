"""What several pages and commands say in the same words: what the figures beside it cannot mean."""

from collections.abc import Iterable
from typing import Final

NO_REGIONS: Final = "This run was trained without the region term (lambda 0): it says nothing about regions."

DEMO_ON_DRAWN: Final = "Demo encoders on a synthetic corpus: figures say nothing about real faces or Aff-Wild2."
DEMO_ON_REAL: Final = (
    "Demo encoders know only drawn faces and synthesised voices: these figures say nothing about real faces."
)

FEWEST_CLIPS: Final = 5
"""Clips below which an interval over clips says too little to stand without a word."""
_HELD: Final = {2: 48, 3: 75, 4: 88}
"""In how many of 100 simulated cases a 95% interval over so few clips holds the truth: docs/method.md, "Intervals"."""


def few_clips(num_clips: int) -> str:
    """Warn of intervals over few clips, wherever one is shown; "" from `FEWEST_CLIPS` on, and where there is none.

    Args:
        num_clips: Clips with a label that counts.
    """
    if num_clips == 1:
        return "Only 1 clip has labels, so there is no 95% interval: other clips may score quite otherwise."
    if num_clips not in _HELD:
        return ""
    return (
        f"Only {num_clips} clips have labels: a 95% interval over so few is too narrow, in simulations it holds the "
        f"truth in {_HELD[num_clips]} of 100 cases. Conclude nothing from it."
    )


def fewest(counts: Iterable[int]) -> int:
    """Give the smallest number of clips that a protocol has counted, of those that have counted any; 0 for none."""
    return min((count for count in counts if count), default=0)


def demo_banner(*, is_demo: bool, synthetic: bool) -> str:
    """Say what figures made with demo encoders are not about; "" where none took part.

    Args:
        is_demo: A demo encoder took part.
        synthetic: The corpus is drawn, and not of real people.
    """
    if not is_demo:
        return ""
    return DEMO_ON_DRAWN if synthetic else DEMO_ON_REAL
