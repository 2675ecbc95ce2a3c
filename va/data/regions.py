"""The region texts and templates whose CLIP embeddings are the prototypes (paper section 3.3, figure 1).

Plain data without imports, because extraction (prototypes), the synthetic corpus and the demo encoders'
training script all need it.
"""

from typing import Final

REGION_TEXTS: Final = (
    "sad, tired, and low-energy",
    "displeased and uncomfortable",
    "angry, tense, and highly aroused",
    "calm, expressionless, and low-energy",
    "neutral and emotionally ordinary",
    "alert, attentive, and emotionally neutral",
    "relaxed, content, and pleasant",
    "happy and pleasant",
    "excited, joyful, and energetic",
)
"""One text per region of the 3x3 grid: valence low to high and, inside each, arousal low to high.

Source: the authors' public release (`docs/method.md`, R1); the paper names only examples.
"""

TEMPLATES: Final = (
    "a photo of a person who looks {}",
    "a face showing {}",
    "a facial expression of {}",
)
"""Templates averaged into one prototype per region (paper section 3.3)."""

CENTERS: Final = (-0.66, 0.0, 0.66)
"""Region centres along each axis, in valence/arousal units (paper table 3)."""
