"""Real processes, really killed: what is readable afterwards is whole, and the next run finishes the work.

The short form of `benchmarks/faults.py`, which kills two hundred. What nothing happens to runs in the test's process.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import inside
import pytest

from va.data import affwild2, synthetic
from va.data.features import open_stores
from va.errors import VAError

CLIPS = 16


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")

    def quiet(done: int, total: int) -> None: ...

    synthetic.write_tree(root, clips=CLIPS, seconds=2.0, seed=0, workers=2, progress=quiet)
    return affwild2.read_tree(root, out=root, name="x", synthetic=True, sample=None, progress=quiet).path


def arguments(corpus: Path, out: Path, *more: str) -> list[str]:
    encoders = ["--encoders", "pixels,loudness", "--device", "cpu"]
    return ["extract", str(corpus), "--out", str(out), *encoders, *more]


def command(corpus: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "va.cli", *arguments(corpus, out, *more)]


def start(corpus: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(corpus, out, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_clips(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many are committed, loose or packed."""

    def there() -> int:
        with contextlib.suppress(VAError):  # no store yet
            return sum(store.count() for store in open_stores(out))
        return 0

    while there() < count and process.poll() is None:
        time.sleep(0.01)


def living(session: int) -> list[str]:
    """List the processes of a session that are not dead."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((stat.parent / "cmdline").read_text())
    return found


def content(out: Path) -> dict[str, bytes]:
    """Every value of every store."""
    found = {}
    for store in open_stores(out):
        for clip_id in store.clip_ids():
            features = store.read(clip_id)
            found[f"{store.encoder}/{clip_id}"] = b"".join(
                array.tobytes() for array in (features.values, features.time_s, features.valid)
            )
    return found


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    assert inside.va(*arguments(corpus, out)) == 0
    found = content(out)
    assert len(found) == 2 * CLIPS
    return found


@pytest.mark.parametrize("shard_mb", ["256", "0.005"], ids=["loose", "shards"])
def test_killed_while_writing_nothing_is_lost_and_nothing_is_wrong(
    corpus: Path, uninterrupted: dict[str, bytes], tmp_path: Path, shard_mb: str
) -> None:
    small = ("--shard-mb", shard_mb)
    for kept in (3, 18):
        process = start(corpus, tmp_path, *small)
        wait_for_clips(tmp_path, kept, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "killed before it was done"
        partial = content(tmp_path)
        assert kept <= len(partial) < 2 * CLIPS
        assert all(uninterrupted[name] == value for name, value in partial.items())
    assert inside.va(*arguments(corpus, tmp_path, *small)) == 0
    assert content(tmp_path) == uninterrupted
    assert bool(list(tmp_path.glob("*/shards/*.h5"))) == (shard_mb == "0.005")
    assert inside.va("verify", tmp_path) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_readers_go_when_their_parent_is_killed(corpus: Path, tmp_path: Path) -> None:
    process = start(corpus, tmp_path)
    wait_for_clips(tmp_path, 1, process)
    assert len(living(process.pid)) > 2  # the parent, the server and readers
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 30
    while living(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert living(process.pid) == []


def test_two_parts_at_once_are_one_store(corpus: Path, uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    parts = [start(corpus, tmp_path, "--part", part) for part in ("1/2", "2/2")]
    outputs = [part.communicate()[0] for part in parts]
    assert [part.returncode for part in parts] == [0, 0]
    assert all(output.startswith(f"{CLIPS // 2} written, 0 already there, 0 failed") for output in outputs)
    assert content(tmp_path) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_lets_the_clip_in_flight_finish(
    number: signal.Signals,
    corpus: Path,
    uninterrupted: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for attempt in range(5):  # a quick machine may have all clips in flight by then, and ends with 0
        out = tmp_path / str(attempt)
        process = start(corpus, out)
        wait_for_clips(out, 1, process)
        os.killpg(process.pid, number)  # to all processes, as a terminal and batch schedulers do
        stdout, stderr = process.communicate()
        if process.returncode:
            break
    tmp_path = out
    assert process.returncode == 128 + number, stderr
    assert "Traceback" not in stderr
    assert "the same command goes on from here" in stderr
    names = content(tmp_path)
    assert len([name for name in names if name.startswith("pixels/")]) == len(names) / 2, "no clip is half done"
    done = int(stdout.split()[0])
    assert inside.va(*arguments(corpus, tmp_path)) == 0
    assert capsys.readouterr().out.startswith(f"{CLIPS - done} written, {done} already there")
    assert content(tmp_path) == uninterrupted


@pytest.mark.skipif(sys.platform != "linux" or not os.path.isdir("/dev/shm"), reason="needs a small file system")  # noqa: PTH112
def test_a_full_disk_ends_with_a_message_and_a_readable_store(
    corpus: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    try:
        done = subprocess.run(command(corpus, disk / "f"), capture_output=True, text=True)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "No space left on device" in done.stderr
        partial = content(disk / "f")
        assert 0 < len(partial) < 2 * CLIPS
        assert all(uninterrupted[name] == value for name, value in partial.items())
    finally:
        subprocess.run(["umount", disk], check=True)
