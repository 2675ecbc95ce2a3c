"""Everything that va loads, in one process: `python chain.py FOLDER`. `tests/test_pickle.py` runs it under watch."""

import contextlib
import io
import sys
from pathlib import Path

import numpy as np


def va(*arguments: object) -> list[str]:
    """Run a command in this process; give the lines of its standard output."""
    from va import console
    from va.cli import app

    said: list[str] = []
    console.say = said.append  # type: ignore[assignment]
    with contextlib.redirect_stdout(io.StringIO()):
        status = app([str(argument) for argument in arguments], standalone_mode=False)
    assert not status, (arguments, status)
    return said


def main(root: Path) -> None:
    """Draw, extract, train, sweep, evaluate, predict, import, share and load."""
    corpus, features = root / "corpus", root / "features"
    va("corpus", "synth", corpus, "--clips", 8, "--seconds", 4, "--workers", 2)
    encoders = ("--encoders", "tiny-clip,tiny-ast", "--shard-mb", 0.001)
    va("extract", corpus, "--out", features, *encoders, "--device", "cpu", "--readers", 2)
    va("verify", features)
    small = ("--device", "cpu", "--width", 16, "--num-heads", 2, "--epochs", 1)
    runs = root / "runs"
    run = va("train", corpus, features, "--out", runs, *small)[-1]
    seeds = ("--seeds", "0,1", "--ensemble")
    ensemble = va("train", corpus, features, "--out", root / "members", *small, *seeds)[-1]
    va("sweep-grid", corpus, features, "--out", root / "sweep", "--centers", "0.5,0.66", "--sigmas", 0.45, *small)
    va("evaluate", run, "--out", root / "report", "--resamples", 20, "--device", "cpu")
    video = next((corpus).rglob("*.mp4"))
    va("predict", run, video, "--out", root / "predicted", "--device", "cpu")
    have = root / "have"
    have.mkdir()
    from va.data.corpus import Corpus

    for clip in Corpus.load(corpus).clips:
        np.savez(have / f"{clip.id}.npz", features=np.ones((8, 3), np.float32), times=np.arange(8) / 2)
    va("import-features", have, "--corpus", corpus, "--out", root / "imported", "--name", "mine", "--kind", "frames")

    import va as library

    loaded = library.load(run, device="cpu")
    assert len(loaded.predict(video).valence)
    from va import hub_pack
    from va.train import checkpoint

    hub_pack.save(hub_pack.pack(Path(run), repo_id="a/b", license_name="", metrics=None, verified=False), root / "hub")
    assert checkpoint.load_run(root / "hub").members == 0
    assert checkpoint.load_run(Path(ensemble)).members == 2
    print("done")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
