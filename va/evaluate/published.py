"""What others published for Aff-Wild2, to place a result: quoted, never verified here.

None of these figures was measured by the others' code or on the others' terms, and protocols differ; the notes say what
is known. docs/method.md, F16, has the paper's other rows.
"""

from typing import Final

from va.evaluate.figures import Published

PUBLISHED: Final[tuple[Published, ...]] = (
    Published(  # docs/method.md, R2
        name="The paper (GRU, attention and gate)",
        ccc_valence=0.4655,
        ccc_arousal=0.6068,
        ccc_mean=0.5361,
        note="its own protocol: probably one prediction per window, none for the first 10 s; split not named",
    ),
    Published(
        name="Challenge baseline, 6th ABAW",
        ccc_valence=0.24,
        ccc_arousal=0.20,
        ccc_mean=None,
        note="validation split",
    ),
    Published(
        name="Frame-wise MLP with smoothing",
        ccc_valence=None,
        ccc_arousal=None,
        ccc_mean=0.568,
        note="validation split; on pretrained features",
    ),
    Published(
        name="Best team, 10th ABAW",
        ccc_valence=None,
        ccc_arousal=None,
        ccc_mean=0.658,
        note="validation split",
    ),
)
