"""Kills `va extract` again and again while it writes, and looks at what is left: a table, then one JSON line.

    python benchmarks/faults.py --kills 200            (about 80 minutes on two busy cores)

Every store is made by two processes at once, `--part 1/2` and `2/2`, with shards so small that they are packed all the
time. Each process is killed by SIGKILL at an instant of its own, half of them with their reader processes, and started
again at once; the other part goes on meanwhile. Once less than a third of a part is left, it is finished undisturbed.

Instants are uniform in time between a process's first write, which is a commit of a clip, and its last. The share of
that span is drawn before the process starts. Its length is foretold before, too: the commits that are left to make, at
the pace of the latest processes. An instant at which the process has ended by itself counts as drawn, and as missed.

After each kill every readable value is compared with that of a run that nobody disturbed, and in the end the whole
store is, bit for bit.
"""

import argparse
import contextlib
import hashlib
import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from va.errors import VAError

# Libraries are imported by main(), before it forks: reader processes load this file again and need none of them.

SHARD_MB = 0.03
ENCODERS = 4  # of the preset 'tiny'
LITTLE = 1 / 3  # of a part: commits come in bursts, and fewer in one or two of them
LATEST = 12  # processes, whose pace foretells that of the next

Content = dict[tuple[str, str], bytes]


@dataclass(kw_only=True)
class Life:
    """One process, and what was seen after it.

    Attributes:
        part: Which part it extracts, i/n.
        ahead: Commits that it has to make.
        foretold_s: Seconds that they are expected to take, from the first to the last.
        share: Of these, when it is killed; None when it is left alone.
        first: Instant of its first write.
        last: Instant of the kill, or of the last write.
        late: It was to be killed, but had ended by itself.
        made: Commits made.
        in_flight: Clips of which it left a half-written file.
        with_shards: There were packed shards.
        wrong: Readable values, of all clips, that differ from the undisturbed run's.
        redone: Commits that had been made before and were made again, or are lost.
        orphans: Reader processes that outlived it by more than ten seconds.
    """

    part: str
    ahead: int
    foretold_s: float
    share: float | None
    first: float = math.inf
    last: float = math.inf
    late: bool = False
    made: int = 0
    in_flight: int = 0
    with_shards: bool = False
    wrong: int = 0
    redone: int = 0
    orphans: int = 0

    @property
    def killed(self) -> bool:
        """Say whether it was killed."""
        return self.share is not None and not self.late

    @property
    def while_writing(self) -> bool:
        """Say whether it was killed after its first commit and before its last."""
        return self.killed and 0 < self.made < self.ahead


def content(out: Path) -> Content:
    """Give a hash of everything that can be read, by the encoder's folder and the clip."""
    from va.data.features import FeatureStore, open_stores

    found: Content = {}
    stores: tuple[FeatureStore, ...] = ()
    with contextlib.suppress(VAError):  # killed before there was one
        stores = open_stores(out)
    for store in stores:
        for clip_id in store.clip_ids():
            features = store.read(clip_id)
            arrays = (features.values, features.time_s, features.valid)
            found[store.directory.name, clip_id] = hashlib.blake2b(b"".join(map(bytes, arrays))).digest()
    return found


def commits(out: Path, clips: set[str]) -> set[tuple[Path, int]]:
    """List the loose files of some clips, with the time of their last write."""
    found = set()
    for file in out.glob("*/clips/*.h5"):
        if file.stem in clips:
            with contextlib.suppress(FileNotFoundError):  # packed meanwhile
                found.add((file, file.stat().st_mtime_ns))
    return found


def halves(out: Path, clips: set[str]) -> dict[Path, str]:
    """List the half-written files of some clips, each with its clip."""
    named = {file: file.name[1:].partition(".h5.")[0] for file in out.glob("*/clips/.*.tmp")}
    return {file: clip for file, clip in named.items() if clip in clips}


def members(group: int) -> list[str]:
    """List the living processes of a session, each with its state."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == group and fields[0] != "Z":
                found.append(f"{stat.parent.name} {fields[0]}")
    return found


def start(corpus: Path, out: Path, part: str) -> int:
    """Fork a process that extracts one part; forked, because importing torch 400 times would take most of the time."""
    from va.extract import pipeline
    from va.extract.config import ExtractConfig

    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        config = ExtractConfig(corpus=corpus, out=out, preset="tiny", part=part, shard_mb=SHARD_MB, device="cpu")
        summary = pipeline.run(config, progress=lambda *_: None)
        status = 1 if summary.failed else 0
    finally:
        os._exit(status)


def live(child: int, life: Life, out: Path, clips: set[str], *, whole_group: bool) -> set[tuple[Path, int]]:
    """Wait for a process's end, or kill it at its instant; give the commits that were seen."""
    old, seen = commits(out, clips), set[tuple[Path, int]]()
    kill_at = math.inf
    while True:
        time.sleep(max(0.0, min(0.005, kill_at - time.monotonic())))
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended and time.monotonic() >= kill_at:
            life.last = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if whole_group else os.kill)(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return seen | (commits(out, clips) - old)
        if new := commits(out, clips) - old - seen:
            seen |= new
            if math.isinf(life.first):
                life.first = time.monotonic()
                kill_at = math.inf if life.share is None else life.first + life.share * life.foretold_s
            life.last = time.monotonic()
        if ended:
            if status:
                raise SystemExit(f"an undisturbed run ended with status {status}")
            life.late = life.share is not None
            return seen


def look(child: int, life: Life, out: Path, before: Content, expected: Content, clips: set[str]) -> Content:
    """Count what is left after a process's end; give what is readable."""
    deadline = time.monotonic() + 10
    while members(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    if over := members(child):
        life.orphans = len(over)
        print(f"left over by {child}, with their states: {', '.join(over)}", flush=True)
    left = content(out)
    life.made = sum(clip in clips for _, clip in left) - sum(clip in clips for _, clip in before)
    life.with_shards = any(out.glob("*/shards/*.h5"))
    life.wrong = sum(value != expected.get(name, value) for name, value in left.items())
    life.redone += sum(name not in left for name in before)
    return left


def make_part(corpus: Path, out: Path, part: str, expected: Content, earlier: Sequence[Life], seed: str) -> list[Life]:
    """Extract one part, in a process of the pool; kill and start again until little is left.

    Args:
        corpus: The manifest's folder.
        out: Features folder.
        part: Which part, i/n.
        expected: What is in the folder in the end; nothing is killed while that is not known.
        earlier: Processes of earlier stores.
        seed: Of the lots.
    """
    from va.data.corpus import Corpus

    rng = random.Random(seed)
    index, parts = map(int, part.split("/"))
    clips = {clip.id for clip in Corpus.load(corpus).clips[index - 1 :: parts]}
    lives: list[Life] = []
    left = content(out)
    while not lives or not (lives[-1].late or lives[-1].share is None):
        before, old_halves = left, halves(out, clips)
        ahead = ENCODERS * len(clips) - sum(clip in clips for _, clip in before)
        share = rng.random() if expected and ahead >= LITTLE * ENCODERS * len(clips) else None
        life = Life(part=part, ahead=ahead, foretold_s=ahead * pace_s([*earlier, *lives]), share=share)
        child = start(corpus, out, part)
        seen = live(child, life, out, clips, whole_group=rng.random() < 0.5)
        life.redone = sum((file.parent.parent.name, file.stem) in before for file, _ in seen)
        life.in_flight = len({clip for file, clip in halves(out, clips).items() if file not in old_halves})
        left = look(child, life, out, before, expected, clips)
        lives.append(life)
    return lives


def pace_s(lives: Sequence[Life]) -> float:
    """Give the seconds per commit of the latest processes, killed or not."""
    latest = sorted((life for life in lives if life.made), key=lambda life: life.last)[-LATEST:]
    return sum(life.last - life.first for life in latest) / max(1, sum(life.made for life in latest))


def both_wrote(lives: Sequence[Life]) -> int:
    """Count a store's kills at whose instant the other part was between its first and its last write too."""
    return sum(
        any(other.part != life.part and other.first < life.last < other.last for other in lives)
        for life in lives
        if life.while_writing
    )


def sound(out: Path, expected: Content) -> bool:
    """Say whether a finished store is what it should be."""
    from va.data.features import open_stores

    return content(out) == expected and not any(problem for store in open_stores(out) for problem in store.problems())


def make(
    pool: ProcessPoolExecutor, corpus: Path, out: Path, expected: Content, earlier: Sequence[Life], seed: int
) -> list[Life]:
    """Extract both parts at once; see `make_part`."""
    made = [
        pool.submit(make_part, corpus, out, part, expected, earlier, f"{seed} {out.name} {part}")
        for part in ("1/2", "2/2")
    ]
    return [life for part in made for life in part.result()]


def main() -> None:
    """Draw a corpus, extract it undisturbed, then kill."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    from va.extract import pipeline  # noqa: F401 - for all that are forked

    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool,
    ):
        root = Path(folder)
        corpus = root / "c"
        # In another process: a forkserver of this one could not serve the processes that it forks.
        draw = [sys.executable, "-m", "va.cli", "corpus", "synth", str(corpus), "--seconds", "2"]
        subprocess.run([*draw, "--clips", str(given.clips)], check=True, capture_output=True)
        # Undisturbed: they must be equal, and give the first pace.
        wholes = [make(pool, corpus, root / name, {}, [], given.seed) for name in ("whole0", "whole1")]
        lives = [life for whole in wholes for life in whole]
        expected = content(root / "whole0")
        if not sound(root / "whole1", expected) or len(expected) != ENCODERS * given.clips:
            raise SystemExit("two undisturbed runs differ")
        stores, unequal, both = 0, 0, 0
        while sum(life.killed for life in lives) < given.kills:
            out = root / f"store{stores}"
            found = make(pool, corpus, out, expected, lives, given.seed)
            lives += found
            stores, unequal, both = stores + 1, unequal + (not sound(out, expected)), both + both_wrote(found)
            drawn = sum(life.share is not None for life in lives)
            writing, wrong = sum(life.while_writing for life in lives), sum(life.wrong for life in lives)
            print(f"{stores} stores: {writing} of {drawn} while writing, {wrong} wrong, {unequal} unequal", flush=True)
    show(given.clips, lives, stores=stores, unequal=unequal, both=both)


def show(clips: int, lives: Sequence[Life], *, stores: int, unequal: int, both: int) -> None:
    """Print the table and the JSON line; exit code 1 where a bar is missed."""
    drawn = [life for life in lives if life.share is not None]
    killed = [life for life in drawn if life.killed]
    writing = [life for life in killed if life.while_writing]
    quarters = [sum(4 * life.made // life.ahead == quarter for life in writing) for quarter in range(4)]
    share = len(writing) / len(drawn)
    wrong, redone = sum(life.wrong for life in lives), sum(life.redone for life in lives)
    orphans = sum(life.orphans for life in lives)
    in_flight = [life.in_flight for life in killed]
    rows: dict[str, tuple[str, object]] = {
        "drawn": ("instants drawn", len(drawn)),
        "late": ("too late, the process had ended", len(drawn) - len(killed)),
        "killed": ("kills (bar: 200)", len(killed)),
        "while_writing": (f"{share:.0%} of drawn were while writing (bar: 80%)", len(writing)),
        "quarters": ("  by quarter of the process's commits", quarters),
        "both": ("  of these, while the other part wrote too", both),
        "with_half_file": ("kills that left a half-written file", sum(map(bool, in_flight))),
        "in_flight": ("clips in flight lost, in all", sum(in_flight)),
        "in_flight_most": ("clips in flight lost, most in one kill", max(in_flight)),
        "with_shards": ("kills with packed shards", sum(life.with_shards for life in killed)),
        "wrong": ("readable values that were wrong (bar: 0)", wrong),
        "redone": ("finished clips lost or done again (bar: 0)", redone),
        "stores": ("stores finished", stores),
        "unequal": ("of those not equal bit for bit (bar: 0)", unequal),
        "orphans": ("reader processes left over (bar: 0)", orphans),
    }
    for label, value in rows.values():
        print(f"{label:<50} {value!s:>18}")
    print(json.dumps({"benchmark": "faults", "clips": clips} | {key: value for key, (_, value) in rows.items()}))
    if wrong or redone or unequal or orphans or share < 0.8:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
