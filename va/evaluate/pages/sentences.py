"""What several pages and commands say in the same words: what the figures beside it cannot mean."""

from typing import Final

NO_REGIONS: Final = "This run was trained without the region term (lambda 0): it says nothing about regions."

DEMO_ON_DRAWN: Final = "Demo encoders on a synthetic corpus: figures say nothing about real faces or Aff-Wild2."
DEMO_ON_REAL: Final = (
    "Demo encoders know only drawn faces and synthesised voices: these figures say nothing about real faces."
)


def demo_banner(*, is_demo: bool, synthetic: bool) -> str:
    """Say what figures made with demo encoders are not about; "" where none took part.

    Args:
        is_demo: A demo encoder took part.
        synthetic: The corpus is drawn, and not of real people.
    """
    if not is_demo:
        return ""
    return DEMO_ON_DRAWN if synthetic else DEMO_ON_REAL
