"""Stage two: cached features to a run directory.

Imports nothing itself, because `train.config` is read at start-up and has to stay cheap.
"""
