"""Faults between two runs: a file is deleted, cut off, flipped, unreadable, or of another time."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from campaign.case import Case
from campaign.kinds import YEARS_S


def delete(file: Path, rng: random.Random) -> None:
    """Remove it."""
    file.unlink()


def truncate(file: Path, rng: random.Random) -> None:
    """Cut off its end, at least a byte."""
    os.truncate(file, rng.randrange(max(1, file.stat().st_size)))


def flip(file: Path, rng: random.Random) -> None:
    """Turn one of its bits round."""
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def hide(file: Path, rng: random.Random) -> None:
    """Take everybody's permission to read it."""
    file.chmod(0)


def _damage(way: Callable[[Path, random.Random], None], case: Case) -> None:
    """Damage an input before the start, or an output of a run that was killed or had finished."""
    command, rng = case.command, case.rng
    of_input = rng.random() < 0.35
    root, patterns = (case.given, command.inputs) if of_input else (case.out, command.outputs)
    if of_input and way is flip:
        patterns = tuple(pattern for pattern in patterns if not pattern.endswith((".json", *command.blind)))
    case.between, case.refused = True, ""
    if not of_input:
        child = case.start()
        if rng.random() < 0.6:
            case.await_instant(child)
            child.send(signal.SIGKILL, group=True)
        child.wait(240)
    if way is flip:  # a bit that is wrong in a number of a text is another number
        patterns = tuple(pattern for pattern in patterns if not pattern.endswith("run.json"))
    file = command.pick(patterns, root, rng)
    if file is None:
        case.hit = False
        return
    case.hit, case.keeps = True, False
    kept = case.folder / "kept"
    shutil.copy2(file, kept)
    way(file, rng)
    child = case.start(limited=way is hide)
    code = case.settle(child)
    where = f"{'input' if of_input else 'output'} {file.relative_to(root)}"
    if way is hide:
        case.undo.append(lambda: file.exists() and file.chmod(0o644))
    if code and not any(line.startswith("error:") for line in case.outcome.told):
        case.outcome.trouble = f"{where}: ended with {code} and did not say why: {child.stderr()[-300:]}"
    if not code and of_input and way is not hide:
        _silent(case, where)
    if of_input:
        case.undo.append(partial(shutil.copy2, kept, file))
    elif code and way is not hide:  # do what is said
        case.refused = str(file.relative_to(root))
        said = " ".join(case.outcome.told)
        if "--no-resume" in said:
            case.undo.append(partial(_from_the_start, case))
        else:
            case.undo.append(partial(_remove, case, file))


def _from_the_start(case: Case) -> None:
    """Train again without the state that was refused."""
    child = case.start([*case.command.argv(case.given, case.out), "--no-resume"], cold=False)
    if child.wait(240):
        case.outcome.trouble = f"--no-resume ended with {child.code}: {child.stderr()[-300:]}"


def _remove(case: Case, file: Path) -> None:
    """Remove the folder of a run that was refused, or what cannot be used in another folder."""
    folders = [folder for folder in file.parents if case.out in folder.parents]
    runs = [folder for folder in folders if (folder / "run.json").exists()]
    shutil.rmtree(runs[0] if runs else file.parent, ignore_errors=True)


def _silent(case: Case, where: str) -> None:
    """A damaged input that was not refused must not have mattered."""
    from campaign import looking

    wrong = case.reference.wrong(looking.readable(case.out))
    if wrong:
        case.outcome.trouble = f"{where}: damaged, and not a word; differs: {wrong[:4]}"


def times(case: Case) -> None:
    """After a kill every file has a time ten years off, in the future or the past."""
    child = case.start()
    case.await_instant(child)
    child.send(signal.SIGKILL, group=True)
    child.wait(240)
    case.note(child)
    then = time.time() + case.rng.choice((-1, 1)) * YEARS_S
    for root in (case.out, case.given):
        for file in root.rglob("*"):
            os.utime(file, (then, then))


BETWEEN: Final[dict[str, Callable[[Case], None]]] = {
    "deleted file": partial(_damage, delete),
    "truncated file": partial(_damage, truncate),
    "flipped bit": partial(_damage, flip),
    "unreadable file": partial(_damage, hide),
    "times ten years off": times,
}
