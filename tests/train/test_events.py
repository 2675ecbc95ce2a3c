"""TensorBoard events, read back by TensorBoard itself."""

import json
from pathlib import Path

import pytest
from small_corpus import Small

from va.errors import VAError
from va.train import runs
from va.train.config import TrainConfig
from va.train.state import Epoch


def quiet(config: TrainConfig, line: Epoch) -> None:
    """Hear nothing."""


def test_events_hold_what_the_log_holds(small: Small, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (directory,) = runs.train([small.config(tmp_path, epochs=2, tensorboard=True)], epoch_done=quiet)
    read = EventAccumulator(str(directory)).Reload()
    log = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    for name in ("loss", "ccc_mean"):
        events = read.Scalars(name)
        assert [event.step for event in events] == [1, 2]
        assert [event.value for event in events] == pytest.approx([line[name] for line in log], rel=1e-5)


def test_a_missing_package_is_told_before_anything_is_written(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("va.train.events.find_spec", lambda name: None)
    with pytest.raises(VAError, match="the tensorboard package is not installed"):
        runs.train([small.config(tmp_path / "runs", tensorboard=True)], epoch_done=quiet)
    assert not (tmp_path / "runs").exists()
