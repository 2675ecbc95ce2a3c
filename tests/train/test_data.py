"""What training reads: statistics for standardised features, against NumPy on the stores themselves."""

from pathlib import Path

import numpy as np
import torch
from small_corpus import Small

from va.train import checkpoint, loop, runs
from va.train.config import TrainConfig
from va.train.data import divide, load_pool, moments, open_data
from va.train.state import Epoch


def quiet(config: TrainConfig, line: Epoch) -> None:
    """Hear nothing."""


def test_moments_are_those_of_the_valid_steps_of_the_training_clips(small: Small, tmp_path: Path) -> None:
    config = small.config(tmp_path)
    data = open_data(config)
    division = divide(config, data.corpus)
    pool = load_pool(config, data, (*division.train, *division.selection), torch.device("cpu"))
    spans = {span.clip.id: span for span in pool.spans}
    windows = loop.windows_of([spans[clip.id] for clip in division.train])
    seen = np.concatenate([data.face.read(clip.id).values for clip in division.train]).astype(np.float64)
    heard = [data.voice.read(clip.id) for clip in division.train]
    sound = np.concatenate([one.values[one.valid] for one in heard]).astype(np.float64)
    for modality, values in (("video", seen), ("audio", sound)):
        mean, scale = moments(pool, windows, modality=modality)
        np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(1 / scale, values.std(axis=0), rtol=1e-5)
    pool.frames[:, 0] = 3.0
    mean, scale = moments(pool, windows, modality="video")
    assert (mean[0], scale[0]) == (3.0, 1.0), "a feature that does not vary is only centred"


def test_a_standardised_run_keeps_its_statistics(small: Small, tmp_path: Path) -> None:
    (directory,) = runs.train([small.config(tmp_path, epochs=1, standardise=True)], epoch_done=quiet)
    projection = checkpoint.load_run(directory).head.video.projection
    assert projection.standardise and not torch.equal(projection.scale, torch.ones(12))
