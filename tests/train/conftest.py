"""Fixtures of the training tests."""

from small_corpus import small

__all__ = ["small"]
