"""Backbones that learn with the head: model inputs instead of cached features, one update over a whole batch."""
