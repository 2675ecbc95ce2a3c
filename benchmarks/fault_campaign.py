"""Disturbs `va`'s long commands in every way that we know, and looks at what is left: a table, then one JSON line.

    python benchmarks/fault_campaign.py --count 300 --log cases.jsonl          (about an hour on two busy cores)
    python benchmarks/fault_campaign.py --only "train, stack:SIGKILL" --count 20

Each case starts a command on a small corpus, brings a fault about at an instant that is drawn evenly over the work that
is left, looks at everything that can be read then, up to five times; then it runs the same command again undisturbed,
and compares the end bit for bit with runs that nobody disturbed. `campaign/commands.py` lists the commands,
`campaign/kinds.py` and `campaign/damage.py` the faults.

The kills of `faults.py` and `faults_train.py` are others and are counted there. Linux only. A full disk needs the right
to mount; where there is none, that kind is left out and that is said.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from campaign import kinds, material, table
from campaign.case import Case, Outcome, Reference
from campaign.commands import COMMANDS
from campaign.damage import BETWEEN

EVERY_COLD = 10
AGAIN = 5
KINDS = {**kinds.WHILE, **BETWEEN}
LIBRARIES = ("va.cli", "va.extract.pipeline", "va.train.ensemble", "va.train.sweep", "va.evaluate.score")
LIBRARIES += ("va.evaluate.summary", "va.evaluate.pages.sweep_page", "va.train.finetuning.finetune")
OF = {"SIGKILL of a reader": ("extract", "finetune"), "va verify beside it": ("extract",)}


def pairs(only: str) -> list[tuple[str, str]]:
    """List the commands with the faults that they can have; `only` is COMMAND, :KIND or COMMAND:KIND, by commas."""
    found = [(command, kind) for kind in KINDS for command in COMMANDS if command in OF.get(kind, tuple(COMMANDS))]
    if not only:
        return found
    wanted = [part.partition(":")[::2] for part in only.split(";")]
    return [pair for pair in found if any(c in ("", pair[0]) and k in ("", pair[1]) for c, k in wanted)]


def cases(given: argparse.Namespace, done: set[tuple[str, str, int]]) -> Iterator[tuple[str, str, int]]:
    """List cases, every pair in turn."""
    wanted = pairs(given.only)
    if not kinds.mountable():
        wanted = [pair for pair in wanted if pair[1] != "full disk"]
    found = 0
    for number in range(10_000):
        for command, kind in wanted:
            if found == given.count:
                return
            if (command, kind, number) not in done:
                found += 1
                yield command, kind, number


def one(name: tuple[str, str, int], root: Path, reference: Reference, seed: int, cold: bool) -> Outcome:
    """Do one case, in a process of the pool."""
    command, kind, number = name
    folder = root / f"case-{command}-{kind}-{number}"
    rng = random.Random(f"{seed} {command} {kind} {number}")
    case = Case(
        COMMANDS[command],
        kind,
        material=root / "material",
        folder=folder,
        reference=reference,
        rng=rng,
        cold=cold,
    )
    try:
        times = 1 if kind in kinds.ONCE else rng.randint(2, AGAIN)
        while times and case.disturb(KINDS[kind]):
            times -= 1
        case.finish()
    except Exception as error:
        case.outcome.trouble = f"{error!r} {traceback.format_exc()[-600:]}"
    finally:
        case.close()
    return case.outcome


def main() -> None:
    """Make the material, do the cases, show the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="COMMAND, :KIND or COMMAND:KIND; several by semicolons")
    parser.add_argument("--log", type=Path, help="a line per case; those that are in it are not done again")
    parser.add_argument("--keep", type=Path, help="work in this folder and keep the cases that went wrong")
    given = parser.parse_args()
    # For all that are forked; the parent computes nothing, since a process that has used torch's threads cannot be.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    for name in LIBRARIES:
        importlib.import_module(name)
    earlier = given.log.read_text().splitlines() if given.log and given.log.exists() else []
    lines = [json.loads(line) for line in earlier]
    done = {(line["command"], line["kind"], line.pop("number")) for line in lines}
    found = [Outcome(**line) for line in lines]
    with tempfile.TemporaryDirectory() as folder:
        root = given.keep or Path(folder)
        todo = list(cases(given, done))
        if todo and not (root / "material").exists():
            material.build(root / "material")
        names = {command for command, _, _ in todo}
        references = {
            name: material.reference(COMMANDS[name], root / "material", Path(folder) / "reference") for name in names
        }
        with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
            asked = {
                pool.submit(one, name, root, references[name[0]], given.seed, not index % EVERY_COLD): name
                for index, name in enumerate(todo, 1)
            }
            for index, future in enumerate(as_completed(asked), 1):
                outcome = future.result()
                found.append(outcome)
                state = f"BROKEN {outcome}" if outcome.bad else f"{outcome.hit} of {outcome.drawn}"
                print(f"{index} of {len(todo)}: {outcome.command}, {outcome.kind} {state}", file=sys.stderr, flush=True)
                if given.log:
                    with given.log.open("a") as log:
                        log.write(json.dumps({**asdict(outcome), "number": asked[future][2]}) + "\n")
    notes = [] if kinds.mountable() else ["full disk: left out, this process has no right to mount a small file system"]
    raise SystemExit(not table.show(found, notes=notes))


if __name__ == "__main__":
    main()
