"""A corpus with known truth: drawn faces that show valence and babbling voices that carry arousal.

Here so that the whole pipeline can be run, tested and demonstrated without licensed data. What is written
are real mp4 and annotation files in the Aff-Wild2 tree; `write_tree` loads a video library, the rest does not.
"""

from collections.abc import Callable
from pathlib import Path

from va.data.synthetic.affect import ENCODER_STREAM, AffectTrack, generator, sample_affect
from va.data.synthetic.clip import ClipSpec, frame_labels, frame_ticks, render_frames, render_sound
from va.data.synthetic.face import draw_frame
from va.data.synthetic.person import Person, sample_person
from va.data.synthetic.scene import FrameState, Scene, sample_scene
from va.data.synthetic.style import Style
from va.data.synthetic.voice import synthesise_voice

__all__ = [
    "ENCODER_STREAM",
    "AffectTrack",
    "ClipSpec",
    "FrameState",
    "Person",
    "Scene",
    "Style",
    "draw_frame",
    "frame_labels",
    "frame_ticks",
    "generator",
    "render_frames",
    "render_sound",
    "sample_affect",
    "sample_person",
    "sample_scene",
    "synthesise_voice",
    "write_tree",
]


def write_tree(
    root: Path,
    *,
    clips: int,
    seconds: float,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None],
    style: Style = "cartoon",
) -> None:
    """Write a synthetic corpus; see `va.data.synthetic.write.write_tree`, which this loads only when called."""
    from va.data.synthetic import write

    write.write_tree(root, clips=clips, seconds=seconds, seed=seed, workers=workers, progress=progress, style=style)
