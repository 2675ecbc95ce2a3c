"""Faults while a command works, and two writers at once. Each takes a case up to the end of what it disturbs."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from campaign.case import Case

DISK: Final = "96m"
YEARS_S: Final = 10 * 365.25 * 86400


def kill(case: Case) -> None:
    """SIGKILL, to the process alone or to its readers too."""
    child = case.start()
    case.await_instant(child)
    child.send(signal.SIGKILL, group=case.rng.random() < 0.5)
    case.hit &= case.settle(child) == -signal.SIGKILL  # it may end by itself between a look at it and the signal


def kill_reader(case: Case) -> None:
    """SIGKILL to one of its processes: costs the clip that it was reading, which is said."""
    child = case.start()
    if case.await_instant(child, late=0.9) and (family := child.family()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(case.rng.choice(family), signal.SIGKILL)
    case.settle(child)


def terminate(case: Case) -> None:
    """SIGTERM, to the process alone or, as a scheduler does, to all."""
    _ask(case, signal.SIGTERM)


def interrupt(case: Case) -> None:
    """Ctrl-C: SIGINT to all processes of the terminal."""
    _ask(case, signal.SIGINT)


def _ask(case: Case, number: int) -> None:
    child = case.start()
    case.await_instant(child)
    child.send(number, group=number == signal.SIGINT or case.rng.random() < 0.5)
    case.settle(child)


def stop(case: Case) -> None:
    """SIGSTOP, a few seconds of nothing, SIGCONT; to the process alone or to all."""
    child = case.start()
    case.await_instant(child)
    group = case.rng.random() < 0.5
    child.send(signal.SIGSTOP, group=group)
    time.sleep(case.rng.uniform(0.5, 3))
    child.send(signal.SIGCONT, group=group)
    if case.settle(child):
        case.outcome.trouble = f"did not go on after SIGCONT: {child.stderr()[-300:]}"


def full_disk(case: Case) -> None:
    """Somebody else takes the last byte of a small file system."""
    if not case.out.is_mount():
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs"]
        subprocess.run([*mount, case.out], check=True, capture_output=True)
    child = case.start()
    case.await_instant(child)
    filler = case.out / ".filler"
    with filler.open("wb", buffering=0) as file:
        for block in (b"\0" * 65536, b"\0" * 4096):
            with contextlib.suppress(OSError):
                while file.write(block):
                    pass
    case.undo.append(lambda: filler.unlink(missing_ok=True))
    case.settle(child)
    if child.code and not case.outcome.told:
        case.outcome.trouble = f"ended with {child.code} and did not say why: {child.stderr()[-300:]}"


def read_only(case: Case) -> None:
    """Folders of the output lose their permission to be written in, before the start or while it works."""
    before = case.rng.random() < 0.25
    child = None if before else case.start(limited=True)
    if child is not None:
        case.await_instant(child)
    changed = [case.out, *(path for path in case.out.rglob("*") if path.is_dir())]
    for folder in changed:
        folder.chmod(0o555)
    case.undo.append(lambda: [folder.chmod(0o755) for folder in changed])
    if child is None:
        child = case.start(limited=True)
        case.hit, case.keeps = True, False
    case.settle(child)
    if child.code and not case.outcome.told:
        case.outcome.trouble = f"ended with {child.code} and did not say why: {child.stderr()[-300:]}"


def clock(case: Case) -> None:
    """The clock of the day jumps ten years while it works, and files carry times of the other side of the jump."""
    by_s = case.rng.choice((-1, 1)) * YEARS_S
    child = case.start(cold=False, jump_s=by_s)
    case.await_instant(child)
    child.send(signal.SIGUSR1, group=False)
    if case.settle(child):
        case.outcome.trouble = f"did not go on after the clock jumped: {child.stderr()[-300:]}"


def two(case: Case) -> None:
    """The same command twice at once, into one folder."""
    _two(case, killed=False)


def two_one_killed(case: Case) -> None:
    """The same command twice at once, and one of them is killed."""
    _two(case, killed=True)


def _two(case: Case, *, killed: bool) -> None:
    children = [case.start(), case.start()]
    case.hit = True
    if killed:
        victim = case.rng.choice(children)
        case.await_instant(victim)
        victim.send(signal.SIGKILL, group=True)
    for child in children:
        case.settle(child)
        if child.code not in (0, -9) and not case.outcome.told:
            case.outcome.trouble = f"ended with {child.code} and did not say why: {child.stderr()[-300:]}"


def beside_verify(case: Case) -> None:
    """`va verify` reads the store again and again while it is written."""
    child = case.start()
    case.await_instant(child, late=0.6)
    for _ in range(3):
        verify = case.start(["verify", str(case.out)], cold=False)
        if verify.wait(120):
            case.outcome.trouble = f"verify found fault with a sound store: {verify.stderr()[-300:]}"
    if case.settle(child):
        case.outcome.trouble = f"ended with {child.code}: {child.stderr()[-300:]}"


def mountable() -> bool:
    """Say whether this process may mount a small file system."""
    folder = Path("/tmp") / f".campaign-{os.getpid()}"
    folder.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
        if not done.returncode:
            subprocess.run(["umount", folder], check=True)
        return not done.returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)


ONCE: Final = ("two writers", "two writers, one killed", "va verify beside it")
WHILE: Final[dict[str, Callable[[Case], None]]] = {
    "SIGKILL": kill,
    "SIGKILL of a reader": kill_reader,
    "SIGTERM": terminate,
    "SIGINT": interrupt,
    "SIGSTOP, SIGCONT": stop,
    "full disk": full_disk,
    "read-only folder": read_only,
    "clock jump": clock,
    "two writers": two,
    "two writers, one killed": two_one_killed,
    "va verify beside it": beside_verify,
}
