"""SIGTERM, as schedulers send it: real processes are stopped, say how to go on, and leave nothing behind."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_corpus import Small
from small_corpus import small as small
from support import make_video
from tiny_run import make_run

from va import console, signals

_PATIENCE_S = 120.0

CHILD = """
import time
from va import signals
try:
    with signals.interrupting() as stop:
        print("ready", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print(stop.signal, flush=True)
    time.sleep(60)
"""

SERVER = """
from multiprocessing import forkserver
from va.extract import process
process.start(print)
print(forkserver._forkserver._forkserver_pid)
import time; time.sleep(60)
"""


def start(*command: str | Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def wait_for(there: Callable[[], Any], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not there():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)


def stop(process: "subprocess.Popen[str]", number: signal.Signals) -> list[str]:
    """Send a signal; give the lines that are then said."""
    process.send_signal(number)
    said = process.communicate(timeout=_PATIENCE_S)[1]
    assert "Traceback" not in said
    return said.splitlines()


# --- in the process itself


def test_the_first_one_interrupts_and_the_second_one_ends() -> None:
    with start("-c", CHILD) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == f"{signal.SIGTERM.value}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(_PATIENCE_S) == -signal.SIGTERM


def test_what_catches_or_ignores_it_already_does_so_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for handler in (signal.SIG_IGN, lambda number, frame: None):
        before = signal.signal(signal.SIGTERM, handler)
        try:
            with signals.interrupting():
                assert signal.getsignal(signal.SIGTERM) is handler
        finally:
            signal.signal(signal.SIGTERM, before)
    with signals.interrupting(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_interruption_that_a_library_swallows_comes_again_with_the_next_progress() -> None:
    with signals.interrupting() as stop, console.progress("working") as progress:
        progress(0, 2)
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            progress(1, 2)
    with console.progress("working") as progress:
        progress(2, 2)


def test_what_is_kept_is_said_of_a_stop_and_of_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), console.stoppable(lambda: "something is kept"):
            raise error
    assert capsys.readouterr().err.count("something is kept") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_does_not_reach_the_server_that_readers_are_forked_from() -> None:
    """It imports libraries for seconds, and an interrupted import would print a traceback."""
    with start("-c", SERVER) as process:
        assert process.stdout is not None
        server = next(line for line in process.stdout if line.strip().isdigit()).strip()
        status = Path(f"/proc/{server}/status").read_text()
        blocked = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk"))
        process.kill()
    assert blocked & 1 << (signal.SIGINT - 1)


# --- of commands


def test_training_says_how_to_go_on(small: Small, tmp_path: Path) -> None:
    command = ["-m", "va.cli", "train", small.corpus, small.features, "--out", tmp_path, "--width", "16"]
    command += ["--num-heads", "2", "--device", "cpu", "--epochs", "5000", "--patience", "5000", "--no-resume"]
    with start(*command) as process:
        wait_for(lambda: list(tmp_path.glob("*/log.jsonl")), process)
        said = stop(process, signal.SIGTERM)
    assert process.returncode == 143
    assert said[-2:] == [
        "every whole epoch is kept; the same command without --no-resume goes on from there",
        "stopped by SIGTERM",
    ]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A temporary folder with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_a_prediction_leaves_no_features_behind(tmp_path: Path, scratch: Path) -> None:
    run = make_run(tmp_path / "runs" / "gru-hierarchical-00000000")
    make_video(tmp_path / "long.mp4", seconds=60)
    command = ["-m", "va.cli", "predict", run, tmp_path / "long.mp4", "--out", tmp_path / "out", "--device", "cpu"]

    def folders() -> list[Path]:
        return list(scratch.glob("va-predict-*"))

    with start(*command, TMPDIR=str(scratch)) as process:
        wait_for(lambda: [each for each in folders() if (each / "features").is_dir()], process)
        process.kill()
    (dead,) = folders()
    with start(*command, TMPDIR=str(scratch)) as process:
        wait_for(lambda: [each for each in folders() if each != dead and (each / "features").is_dir()], process)
        assert not dead.exists(), "what a killed command left has gone"
        said = stop(process, signal.SIGTERM)
    assert process.returncode == 143 and folders() == []
    assert said[-2].startswith("finished pages are kept, features are not: the same command begins again")
    assert said[-1] == "stopped by SIGTERM"


def test_a_temporary_folder_with_a_long_path_is_named(tmp_path: Path) -> None:
    """Its path is part of a socket's, which the system keeps below 108 bytes."""
    run, scratch = make_run(tmp_path / "runs" / "gru-hierarchical-00000000"), tmp_path / ("long" * 25)
    scratch.mkdir()
    make_video(tmp_path / "short.mp4", seconds=1)
    command = ["-m", "va.cli", "predict", run, tmp_path / "short.mp4", "--out", tmp_path / "out", "--device", "cpu"]
    with start(*command, TMPDIR=str(scratch)) as process:
        said = process.communicate(timeout=_PATIENCE_S)[1]
    assert process.returncode == 1
    assert "error: no process can be started that would read media: AF_UNIX path too long" in said
    assert f"fix: Give TMPDIR, now {scratch}, a short path" in said
    assert "Traceback" not in said
