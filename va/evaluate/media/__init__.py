"""Predictions on what was never cached: videos, arrays, streams, by a run or by texts alone."""
