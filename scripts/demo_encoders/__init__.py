"""Parts of `scripts/train_demo_encoders.py`; not installed with the package."""
