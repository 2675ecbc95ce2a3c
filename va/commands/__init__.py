"""The commands, by what they work on: parse, call one function, print. No logic lives here.

Stages are imported inside their command, because NumPy, torch and transformers take seconds and `va --help` must not
wait for them. `va/cli.py` puts the commands together.
"""
