"""A real process, really killed while it decodes: what is there is whole, and the next run makes the rest."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from va.data import affwild2, synthetic

CLIPS = 8
PREPARE = """
import sys
from pathlib import Path

import torch

from va.data.corpus import Corpus
from va.extract import encoders
from va.extract.config import ExtractConfig
from va.train.finetuning import inputs

corpus = Corpus.load(Path(sys.argv[1]))
config = ExtractConfig(corpus=corpus.path, out=Path("nowhere"), preset="tiny", device="cpu", readers=2)
face, voice = (encoders.build(name, config=config, device=torch.device("cpu")) for name in config.chosen[:2])
clips, directory = corpus.clips, Path(sys.argv[2])
print("ready", flush=True)
inputs.prepare(clips, face=face, voice=voice, config=config, directory=directory, progress=lambda *_: None)
"""


def start(corpus: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARE, str(corpus), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def content(out: Path) -> dict[str, bytes]:
    """Every clip that has its name."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("*/clips/[!.]*")}


@pytest.mark.slow
def test_killed_at_any_instant_it_loses_the_clips_in_flight_only(tmp_path: Path) -> None:
    def quiet(done: int, total: int) -> None: ...

    root, whole, out = tmp_path / "corpus", tmp_path / "whole", tmp_path / "killed"
    synthetic.write_tree(root, clips=CLIPS, seconds=4.0, seed=0, workers=2, progress=quiet)
    corpus = affwild2.read_tree(root, out=root, name="x", synthetic=True, sample=None, progress=quiet).path
    assert start(corpus, whole).wait(timeout=200) == 0
    expected = content(whole)
    assert len(expected) == 2 * CLIPS
    kept: dict[str, bytes] = {}
    for wanted in (1, 7):
        process = start(corpus, out)
        deadline = time.monotonic() + 120
        while len(content(out)) < wanted and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "killed before it was done"
        before, kept = kept, content(out)
        assert wanted <= len(kept) < 2 * CLIPS and set(before) <= set(kept)
        assert all(expected[name] == data for name, data in kept.items())
    times = {path: path.stat().st_mtime_ns for path in out.glob("*/clips/[!.]*")}
    assert start(corpus, out).wait(timeout=200) == 0
    assert content(out) == expected
    assert all(path.stat().st_mtime_ns == at for path, at in times.items()), "what was there was not decoded again"
