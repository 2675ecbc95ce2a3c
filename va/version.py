"""The package version, in one place, so that `pyproject.toml` and every run directory agree."""

__version__ = "0.1.0.dev0"
