"""Commands on a Ray cluster of their own, with workers really killed; `benchmarks/faults_ray.py` kills more."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_corpus import Small, small

from va.data import affwild2, synthetic
from va.data.features import open_stores

__all__ = ["small"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

CLIPS, EPOCHS = 16, 30
ENVIRONMENT = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4, "OMP_NUM_THREADS": "1"}
RAY = ("--engine", "ray", "--task-cpus", "1")


def quiet(*_: object) -> None:
    """Hear nothing."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    synthetic.write_tree(root, clips=CLIPS, seconds=2.0, seed=0, workers=1, progress=quiet)
    return affwild2.read_tree(root, out=root, name="x", synthetic=True, sample=None, progress=quiet).path


def content(out: Path) -> dict[str, bytes]:
    return {
        f"{store.directory.name}/{clip}": store.read(clip).values.tobytes()
        for store in open_stores(out)
        for clip in store.clip_ids()
    }


@contextlib.contextmanager
def running(*command: object) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "va.cli", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def below(root: int) -> dict[int, bytes]:
    """List what a process has started, directly or not, each with its title."""
    parents, titles = dict[int, int](), dict[int, bytes]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(stat.parent.name)] = int(fields[1])
                titles[int(stat.parent.name)] = (stat.parent / "cmdline").read_bytes()

    def ancestors(process: int) -> Iterator[int]:
        while process in parents:
            process = parents[process]
            yield process

    return {process: title for process, title in titles.items() if root in ancestors(process)}


def when(there: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 200
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill_a_worker(root: int) -> None:
    working = [process for process, title in below(root).items() if title.startswith(b"ray::work")]
    os.kill(working[0], signal.SIGKILL)


def loose(out: Path) -> int:
    return len(list(out.glob("loudness-*/clips/*.h5")))


def extraction(corpus: Path, out: Path, *more: str) -> tuple[object, ...]:
    return "extract", corpus, "--out", out, "--encoders", "pixels,loudness", "--device", "cpu", *more


def test_a_worker_killed_while_it_extracts_loses_and_doubles_nothing(corpus: Path, tmp_path: Path) -> None:
    with running(*extraction(corpus, tmp_path / "whole")) as process:
        assert process.communicate(timeout=200)[0].startswith(f"{CLIPS} written")
    out = tmp_path / "killed"
    with running(*extraction(corpus, out, *RAY)) as process:
        when(lambda: loose(out) >= 2, process)
        kill_a_worker(process.pid)
        started = set(below(process.pid))
        stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    written, present, failed = (int(word) for word in stdout.splitlines()[0].split() if word.isdigit())
    assert (written + present, failed) == (CLIPS, 0)
    assert content(out) == content(tmp_path / "whole")
    assert not [process for process in started if Path(f"/proc/{process}/fd").exists()], "Ray is gone"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_lets_clips_in_flight_finish(number: signal.Signals, corpus: Path, tmp_path: Path) -> None:
    with running(*extraction(corpus, tmp_path, *RAY)) as process:
        when(lambda: loose(tmp_path) >= 2, process)
        started = set(below(process.pid))
        os.killpg(process.pid, number)
        stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 128 + number, stderr
    assert "Traceback" not in stderr and "the same command goes on from here" in stderr
    done = int(stdout.split()[0])
    assert 2 <= done < CLIPS
    assert len(content(tmp_path)) == 2 * done, "no clip is half done"
    assert not [process for process in started if Path(f"/proc/{process}/fd").exists()], "Ray is gone"


def sweep(small: Small, out: Path, *more: str) -> tuple[object, ...]:
    heads = ("--width", "16", "--num-heads", "2", "--epochs", EPOCHS, "--patience", EPOCHS, "--device", "cpu")
    grid = ("--centers", "0.66", "--sigmas", "0.3,0.45", "--seeds", "0,1", "--stack", "2", "--learning-rate", "0.005")
    return "sweep-grid", small.corpus, small.features, "--out", out, *heads, *grid, *more


def test_a_signal_ends_a_sweep_and_ray_with_it(small: Small, tmp_path: Path) -> None:
    with running(*sweep(small, tmp_path, *RAY, "--epochs", 3000, "--patience", 3000)) as process:
        when(lambda: any(tmp_path.glob("runs/*/log.jsonl")), process)
        started = set(below(process.pid))
        os.killpg(process.pid, signal.SIGTERM)
        _, stderr = process.communicate(timeout=200)
    assert process.returncode == 128 + signal.SIGTERM, stderr
    assert "Traceback" not in stderr
    assert not [process for process in started if Path(f"/proc/{process}/fd").exists()], "Ray is gone"


def test_a_worker_killed_while_it_trains_goes_on_to_the_same_bits(small: Small, tmp_path: Path) -> None:
    with running(*sweep(small, tmp_path / "whole")) as process:
        process.communicate(timeout=200)
    out = tmp_path / "killed"
    logs = "runs/*/log.jsonl"
    with running(*sweep(small, out, *RAY)) as process:
        when(lambda: any(len(log.read_text().splitlines()) >= 3 for log in out.glob(logs)), process)
        kill_a_worker(process.pid)
        assert not list(out.glob("runs/*/run.json")), "it was killed before the end of its trials"
        _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    found = sorted((tmp_path / "whole").glob("runs/*/*"))
    assert len(found) == 4 * 3
    for file in found:
        ours = out / file.relative_to(tmp_path / "whole")
        assert ours.exists() and (file.name == "run.json" or ours.read_bytes() == file.read_bytes())
    assert sorted(path.name for path in (out / "runs").iterdir()) == sorted({file.parent.name for file in found})
