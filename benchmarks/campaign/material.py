"""Small inputs, made once, and what each command does with them when nobody disturbs it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from campaign import looking
from campaign.case import Reference
from campaign.child import Child
from campaign.commands import COMMANDS, Command

CLIPS = 12
SECONDS = "2"


def build(root: Path) -> None:
    """Make a corpus with media, one with cached features, and a finished run."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    import fine_run
    import small_corpus

    draw = [sys.executable, "-m", "va.cli", "corpus", "synth", str(root / "media"), "--seconds", SECONDS]
    subprocess.run([*draw, "--clips", str(CLIPS)], check=True, capture_output=True)
    small_corpus.build(root / "small")
    _pack_one(root / "small" / "features")
    _forked(lambda: fine_run.build(root / "fine"))
    argv = COMMANDS["train"].argv(root, root / "runs")
    _undisturbed(Child(argv, root / "training"))


def _forked(make: Callable[[], object]) -> None:
    """Do something that uses torch, and starts processes, without leaving a trace of either in this one."""
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setsid()
            make()
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the material cannot be made")


def _pack_one(features: Path) -> None:
    """Pack one store, so that there are loose clips and shards."""
    from va.data.features import open_stores

    open_stores(features)[0].pack(at_least=1)


def reference(command: Command, material: Path, folder: Path) -> Reference:
    """Run a command undisturbed, twice: the results must be equal, and every file's versions are kept.

    Raises:
        SystemExit: They differ, or a run failed.
    """
    found = []
    written: dict[str, set[str]] = {}
    units = 0
    for number in range(2):
        out, record = folder / f"{command.name}{number}", folder / f"{command.name}{number}.jsonl"
        out.mkdir(parents=True)
        record.touch()
        child = Child(command.argv(material, out), folder / f"{command.name}{number}", record=record)
        units = _watched(child, command, out)
        found.append(looking.readable(out))
        for line in record.read_text().splitlines():
            path, digest = json.loads(line)
            written.setdefault(str(Path(path).relative_to(out)), set()).add(digest)
    if found[0] != found[1] or not found[0]:
        names = [name for name in {*found[0], *found[1]} if found[0].get(name) != found[1].get(name)]
        raise SystemExit(f"two undisturbed runs of {command.name} differ: {names}")
    return Reference(final=found[0], history=written, units=units)


def _watched(child: Child, command: Command, out: Path) -> int:
    """Wait for a process's end and count its pieces of work."""
    units = 0
    while child.poll() is None:
        units = max(units, command.units(out, child.stderr()))
        time.sleep(0.004)
    _undisturbed(child)
    return max(units, command.units(out, child.stderr()))


def _undisturbed(child: Child) -> None:
    if child.wait(600):
        raise SystemExit(f"an undisturbed run failed: {child.stderr()}")
