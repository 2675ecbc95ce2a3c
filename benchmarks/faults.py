"""Kills `va extract` again and again while it writes, and looks at what is left: a table, then one JSON line.

    python benchmarks/faults.py --kills 200            (about half an hour on two cores)

Every store is made by two processes at once, `--part 1/2` and `2/2`, with shards so small that they are packed all the
time. Each is killed by SIGKILL at an instant of its own, drawn uniformly between the first and the last write that is
expected, half of the time with its reader processes and half of the time without; both are started again, and after six
kills they may finish. After the kills every readable value is compared with that of a run that nobody disturbed, and in
the end the whole store is, bit for bit.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from va.errors import VAError

# Libraries are imported by main(), before it forks: reader processes load this file again and need none of them.

SHARD_MB = 0.03
KILLS_PER_STORE = 6

Content = dict[tuple[str, str], bytes]


@dataclass
class Tally:
    """What was seen.

    Attributes:
        kills: Instants drawn so far.
        late: Of those, at which the process had already ended by itself, so that nothing was killed.
        while_writing: Of those, after the first and before the last write of that process.
        with_half_file: Pairs of kills that left a half-written file.
        with_shards: Kills that left packed shards.
        wrong: Readable values that differ from the undisturbed run's.
        redone: Commits of a clip and encoder that had been committed before.
        unequal: Finished stores that differ from the undisturbed run's.
        orphans: Reader processes that outlived their parent by more than ten seconds.
    """

    kills: int = 0
    late: int = 0
    while_writing: int = 0
    with_half_file: int = 0
    with_shards: int = 0
    wrong: int = 0
    redone: int = 0
    unequal: int = 0
    orphans: int = 0


def content(out: Path) -> Content:
    """Everything that can be read, by encoder and clip."""
    from va.data.features import FeatureStore, open_stores

    found: Content = {}
    stores: tuple[FeatureStore, ...] = ()
    with contextlib.suppress(VAError):  # killed before there was one
        stores = open_stores(out)
    for store in stores:
        for clip_id in store.clip_ids():
            features = store.read(clip_id)
            arrays = (features.values, features.time_s, features.valid)
            found[store.encoder, clip_id] = b"".join(array.tobytes() for array in arrays)
    return found


def files_of(out: Path) -> set[Path]:
    """List the clips' files and the shards."""
    return set(out.glob("*/*/*.h5"))


def halves(out: Path) -> set[Path]:
    """List the files that are being written, or were when a process was killed."""
    return {*out.glob("*/clips/.*.tmp"), *out.glob("*/shards/.*.tmp")}


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


def finish(children: list[int]) -> None:
    """Wait for processes that must end well."""
    for child in children:
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit(f"an undisturbed run ended with status {status}")


def kill(child: int, *, whole_group: bool) -> None:
    """SIGKILL a process, with everything that it started or alone."""
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if whole_group else os.kill)(child, signal.SIGKILL)
    os.waitpid(child, 0)


def members(group: int) -> int:
    """Count the living processes of a session."""
    count = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            count += int(fields[3]) == group and fields[0] != "Z"
    return count


def kill_both(
    corpus: Path, out: Path, expected: Content, tally: Tally, *, per_commit_s: float, rng: random.Random
) -> None:
    """Start both parts, kill each at an instant drawn for it, look after each kill.

    Args:
        corpus: The manifest's folder.
        out: Features folder.
        expected: What is in it in the end.
        tally: Is added to.
        per_commit_s: Seconds from a process's first write to its last, per commit, while the other one runs too.
        rng: Gives the instants.
    """
    before, old_halves = content(out), halves(out)
    clips = sorted({clip for _, clip in expected})
    mine = {start(corpus, out, f"{part}/2"): set(clips[part - 1 :: 2]) for part in (1, 2)}
    share = {child: rng.random() for child in mine}
    kill_at: dict[int, float] = {}
    loose = {file for file in files_of(out) if file.parent.name == "clips"}
    while mine:
        time.sleep(0.002)
        written = {file.stem for file in files_of(out) - loose if file.parent.name == "clips"}
        for child in list(mine):
            if child not in kill_at and written & mine[child]:
                ahead = sum(name[1] in mine[child] and name not in before for name in expected)
                kill_at[child] = time.monotonic() + share[child] * per_commit_s * ahead
            ended = os.waitpid(child, os.WNOHANG)[0] == child
            if not ended and time.monotonic() < kill_at.get(child, float("inf")):
                continue
            tally.late += ended
            if not ended:
                kill(child, whole_group=rng.random() < 0.5)
            look(child, mine.pop(child), out, before, expected, tally)
    tally.with_half_file += bool(halves(out) - old_halves)


def look(child: int, clips: set[str], out: Path, before: Content, expected: Content, tally: Tally) -> None:
    """Count one kill, and what is readable after it."""
    deadline = time.monotonic() + 10
    while members(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    tally.kills += 1
    tally.orphans += members(child)
    left = content(out)
    counts = [sum(name[1] in clips for name in found) for found in (before, left, expected)]
    tally.while_writing += counts[0] < counts[1] < counts[2]
    tally.with_shards += any(out.glob("*/shards/*.h5"))
    tally.wrong += sum(value != expected[name] for name, value in left.items())
    tally.redone += sum(name not in left for name in before)


def undisturbed_s(corpus: Path, out: Path) -> float:
    """Extract with nobody killing; give the seconds from the first write to the last."""
    children = {start(corpus, out, part) for part in ("1/2", "2/2")}
    first = last = 0.0
    seen: set[Path] = set()
    while children:
        time.sleep(0.002)
        there = files_of(out)
        if not there <= seen:
            last = time.monotonic()
            first, seen = first or last, seen | there
        for child in list(children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if status:
                raise SystemExit(f"an undisturbed run ended with status {status}")
            children -= {ended}
    return last - first


def one_store(
    corpus: Path, out: Path, expected: Content, tally: Tally, *, kills: int, per_commit_s: float, rng: random.Random
) -> None:
    """Make one store through several kills, let it finish, and compare."""
    for _ in range(-(-kills // 2)):  # a process of each part
        kill_both(corpus, out, expected, tally, per_commit_s=per_commit_s, rng=rng)
        if len(content(out)) == len(expected):
            break
    before = {file: file.stat().st_mtime_ns for file in out.glob("*/*/*.h5")}
    finish([start(corpus, out, part) for part in ("1/2", "2/2")])
    from va.data.features import open_stores

    problems = [problem for store in open_stores(out) for problem in store.problems()]
    tally.unequal += content(out) != expected or bool(problems)
    # A finished clip may move into a shard, but its own file is not written again.
    tally.redone += sum(file.exists() and file.stat().st_mtime_ns != written for file, written in before.items())


def main() -> None:
    """Draw a corpus, extract it undisturbed, then kill."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    from va.extract import pipeline  # noqa: F401 - for all that are forked

    rng = random.Random(given.seed)
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # In another process: a forkserver of this one could not serve the processes that it forks.
        draw = [sys.executable, "-m", "va.cli", "corpus", "synth", str(root / "c"), "--seconds", "2"]
        subprocess.run([*draw, "--clips", str(given.clips)], check=True, capture_output=True)
        corpus = root / "c"
        # Two: they must be equal, and say how long writing takes.
        spans = [undisturbed_s(corpus, root / f"whole{number}") for number in range(2)]
        expected = content(root / "whole0")
        if content(root / "whole1") != expected or len(expected) != 4 * given.clips:
            raise SystemExit("two undisturbed runs differ")
        stores = 0
        while tally.kills < given.kills:
            kills = min(KILLS_PER_STORE, given.kills - tally.kills)
            one_store(
                corpus,
                root / f"store{stores}",
                expected,
                tally,
                kills=kills,
                per_commit_s=2 * min(spans) / len(expected),
                rng=rng,
            )
            stores += 1
            print(
                f"{tally.kills} kills, {stores} stores, {tally.wrong} wrong values, {tally.unequal} unequal", flush=True
            )
    show(given, tally, stores, len(expected), spans)


def show(given: argparse.Namespace, tally: Tally, stores: int, commits_in_all: int, spans: list[float]) -> None:
    """Print the table and the JSON line; exit code 1 where a bar is missed."""
    share = tally.while_writing / tally.kills
    print(f"{given.clips} clips, {commits_in_all} commits a store, undisturbed {min(spans):.1f} s from the first on")
    rows = {
        "kills (bar: 200)": tally.kills - tally.late,
        "too late, the process had ended": tally.late,
        "while writing (bar: 80%)": f"{share:.0%}",
        "pairs that left a half-written file": tally.with_half_file,
        "with packed shards": tally.with_shards,
        "readable values that were wrong (bar: 0)": tally.wrong,
        "finished clips done again (bar: 0)": tally.redone,
        "stores finished": stores,
        "of those not equal bit for bit (bar: 0)": tally.unequal,
        "reader processes left over (bar: 0)": tally.orphans,
    }
    for name, value in rows.items():
        print(f"{name:<44} {value:>8}")
    print(json.dumps({"benchmark": "faults", "clips": given.clips, "stores": stores, **vars(tally)}))
    if tally.wrong or tally.redone or tally.unequal or tally.orphans or share < 0.8:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
