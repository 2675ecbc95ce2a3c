"""Valence and arousal over time from video and sound.

Importing this package is cheap on purpose: NumPy, torch and transformers load only when a stage runs.
"""

from va.version import __version__

__all__ = ["__version__"]
