"""One case: start a command, disturb it, look, run it again undisturbed, compare."""

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from campaign import looking
from campaign.child import Child, living
from campaign.commands import Command

LIMIT_S: Final = 240.0
GOING_S: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a command does when nobody disturbs it.

    Args:
        final: What is readable in the end.
        history: Hashes that each file had on the way.
        units: Pieces of work.
    """

    final: dict[str, str]
    history: dict[str, set[str]]
    units: int

    def wrong(self, found: dict[str, str]) -> list[str]:
        """List what is readable and was never there undisturbed."""
        return [name for name, value in found.items() if value not in self._allowed(name)]

    def _allowed(self, name: str) -> set[str]:
        last = Path(name).name
        source = str(Path(name).with_name(looking.STATES.get(last, last)))
        return {self.final.get(name, "")} | self.history.get(name, set()) | self.history.get(source, set())


@dataclass(kw_only=True)
class Outcome:
    """What a case showed.

    Attributes:
        command: Row.
        kind: Row.
        drawn: Faults that were to come, one after the other.
        hit: Of these, how many came while the command worked, or between two runs.
        cold: In a Python of its own.
        exits: Exit codes of disturbed processes, in words.
        told: Pairs of error and mend that they ended with, and notes.
        wrong: Readable after the fault, and never there undisturbed.
        lost: Pieces of finished work that the fault took with it.
        unequal: In the end, other than undisturbed.
        left_over: Processes ten seconds after the end of theirs.
        tracebacks: Outputs with one.
        trouble: What went otherwise wrong with the case.
    """

    command: str
    kind: str
    drawn: int = 0
    hit: int = 0
    cold: bool = False
    exits: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lost: int = 0
    unequal: list[str] = field(default_factory=list)
    left_over: int = 0
    tracebacks: int = 0
    trouble: str = ""

    @property
    def bad(self) -> bool:
        """Whether it broke a promise."""
        return bool(self.wrong or self.lost or self.unequal or self.left_over or self.tracebacks or self.trouble)


class Case:
    """A case at work.

    Args:
        command: What is disturbed.
        kind: By what.
        material: Folder of inputs.
        folder: Of this case; removed in the end when nothing was wrong.
        reference: What is expected.
        rng: Its lots.
        cold: Processes are started as users start them.
    """

    def __init__(
        self,
        command: Command,
        kind: str,
        *,
        material: Path,
        folder: Path,
        reference: Reference,
        rng: random.Random,
        cold: bool,
    ) -> None:
        self.command, self.reference, self.rng, self.cold = command, reference, rng, cold
        self.outcome = Outcome(command=command.name, kind=kind, cold=cold)
        self.folder, self.given, self.out = folder, folder / "given", folder / "out"
        self.undo: list[Callable[[], Any]] = []
        self.hit = False
        self.between = False  # the fault comes between two runs, so a finished one can be disturbed again
        self.keeps = True  # what was done before the fault must be there after it
        self.refused = ""  # a file that was damaged, and that a command would not use
        self._count = 0
        self._before = 0
        shutil.rmtree(folder, ignore_errors=True)
        self.out.mkdir(parents=True)
        for name in command.needs:
            shutil.copytree(material / name, self.given / name, symlinks=True)

    def start(self, argv: list[str] | None = None, **how: Any) -> Child:
        """Start the command, or another one."""
        self._count += 1
        argv = argv or self.command.argv(self.given, self.out)
        return Child(argv, self.folder / f"process{self._count}", **{"cold": self.cold, **how})

    def units(self, child: Child) -> int:
        """Count the work that can be seen."""
        return self.command.units(self.out, child.stderr())

    def await_instant(self, child: Child, *, late: float = 1.0) -> bool:
        """Wait for an instant that is drawn evenly over the work; False when the process ended before it.

        Args:
            child: The process.
            late: Share of the work before whose end the instant lies.
        """
        already = self.command.units(self.out, "")
        at = self.rng.randint(already + 1, max(already + 1, int(late * self.reference.units) - 1))
        jitter, first, deadline = self.rng.random(), 0.0, time.monotonic() + LIMIT_S
        while (found := self.units(child)) < at:
            first = first or (time.monotonic() if found > already else 0.0)
            if child.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.004)
        pace = (time.monotonic() - first) / max(1, found - already) if first else 0.05
        time.sleep(min(1.0, jitter * pace))
        self._before = self.units(child)
        self.hit = child.poll() is None
        return self.hit

    def settle(self, child: Child) -> int:
        """Wait for the end of a disturbed process, and note how it ended."""
        code = child.wait(LIMIT_S)
        self.note(child)
        return code

    def note(self, child: Child) -> None:
        """Note how a process ended, what it said, and what it left behind."""
        self.outcome.exits.append(str(child.code))
        said = child.stderr()
        self.outcome.tracebacks += "Traceback" in said or "Traceback" in child.stdout()
        self.outcome.told += [self._short(line) for line in _told(said, child.code)]
        deadline = time.monotonic() + GOING_S
        while (over := living(child.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.outcome.left_over += len(over)
        for pid in over:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def look(self) -> None:
        """Compare what is readable with what was there undisturbed, and nothing may be lost."""
        found = looking.readable(self.out)
        self.outcome.wrong += [name for name in self.reference.wrong(found) if name != self.refused]
        if self.keeps and self.hit:
            self.outcome.lost += max(0, self._before - self.command.kept(self.out, found))

    def disturb(self, fault: Callable[["Case"], None]) -> bool:
        """Bring a fault about, look at what it leaves, and take it away; False when nothing is left to disturb."""
        self.hit = False
        self.outcome.drawn += 1
        fault(self)
        self.outcome.hit += self.hit
        self.look()
        for step in reversed(self.undo):
            step()
        self.undo.clear()
        return self.hit and (self.between or self.outcome.exits[-1] != "0")

    def finish(self) -> Outcome:
        """Run the same command again, and compare the end."""
        child = self.start(cold=False)
        child.wait(LIMIT_S)
        if child.code:
            self.outcome.trouble = f"the same command again ended with {child.code}: {child.stderr()[-400:]}"
        found = looking.readable(self.out)
        names = {name for name in found if not name.endswith(".damaged")} | set(self.reference.final)
        self.outcome.unequal = [name for name in sorted(names) if found.get(name) != self.reference.final.get(name)]
        return self.outcome

    def close(self) -> None:
        """Take the fault away whatever happened."""
        for step in reversed(self.undo):
            with contextlib.suppress(Exception):
                step()
        subprocess.run(["umount", "-l", self.out], capture_output=True)
        if not self.outcome.bad:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _short(self, line: str) -> str:
        return line.replace(str(self.out), "OUT").replace(str(self.given), "GIVEN")


def _told(said: str, code: int | None) -> list[str]:
    """Give the two lines of an error, or the note that stands for them."""
    lines = said.splitlines()
    errors = [f"{lines[i]} | {lines[i + 1]}" for i in range(len(lines) - 1) if lines[i].startswith("error: ")]
    notes = [line for line in lines if "interrupted" in line or "stopped with" in line or "set aside" in line]
    return (errors or notes) if code else notes
