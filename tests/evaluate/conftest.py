"""Fixtures of the evaluation tests."""

from small_corpus import small

__all__ = ["small"]
