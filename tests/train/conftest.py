"""Fixtures of the training tests."""

from small_corpus import small
from small_tower import own, towered

__all__ = ["own", "small", "towered"]
