"""Transforms of `fakes.py`: reader processes import them by name, and would wait for torch beside them."""

import os
import signal
import time

import numpy as np


def eye_input(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(np.float32).ravel() / 255


def misbehave_on_white(rgb: np.ndarray, *, how: str) -> np.ndarray:
    """What a decoder may do on a hostile file, in the process and at the time in which it would."""
    if rgb.min() > 240:
        if how == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif how == "hang":
            time.sleep(1000)
        elif how == "exhaust memory":
            np.ones(10**9)
        elif how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "exit":
            os._exit(3)
        elif how == "raise":
            1 / 0  # noqa: B018
    return eye_input(rgb)


def ear_input(rows: np.ndarray) -> np.ndarray:
    padded = np.zeros(200, np.float32)
    padded[: len(rows)] = np.sqrt(rows[:, 0])
    return padded
