"""What a campaign showed, as a table and one JSON line."""

import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import date

from campaign.case import Outcome


def show(cases: Sequence[Outcome], *, notes: Sequence[str]) -> bool:
    """Print it; True when nothing was lost, wrong, left over or untold."""
    import torch

    machine = f"{os.cpu_count()} shared CPU cores, Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{date.today()}; {machine}; load {os.getloadavg()[1]:.0f}")
    for note in notes:
        print(note)
    print(f"\n{'command':<13} {'kind of fault':<24} {'cases':>5} {'drawn':>5} {'cold':>5}", end=" ")
    print(" ".join(f"{name:>9}" for name in _row([])), " exit codes")
    order = sorted({(case.command, case.kind) for case in cases})
    for command, kind in order:
        some = [case for case in cases if (case.command, case.kind) == (command, kind)]
        codes = Counter(code for case in some for code in case.exits)
        print(_line(command, kind, some), ", ".join(f"{code}: {count}" for code, count in sorted(codes.items())))
    print(_line("all", "", cases))
    _quote(cases)
    by_kind, by_command = Counter[str](), Counter[str]()
    for case in cases:
        by_kind[case.kind] += case.hit
        by_command[case.command] += case.hit
    drawn = sum(case.drawn for case in cases)
    result = {"benchmark": "fault_campaign", "cases": len(cases), "drawn": drawn, **_row(cases)}
    result |= {"kinds": by_kind, "commands": by_command}
    print(json.dumps(result))
    return not any(case.bad for case in cases)


def _row(cases: Sequence[Outcome]) -> dict[str, int]:
    return {
        "injected": sum(case.hit for case in cases),
        "wrong": sum(bool(case.wrong) for case in cases),
        "lost": sum(case.lost for case in cases),
        "unequal": sum(bool(case.unequal) for case in cases),
        "left over": sum(case.left_over for case in cases),
        "traceback": sum(case.tracebacks for case in cases),
        "trouble": sum(bool(case.trouble) for case in cases),
    }


def _line(command: str, kind: str, cases: Sequence[Outcome]) -> str:
    drawn, cold = sum(case.drawn for case in cases), sum(case.cold for case in cases)
    figures = " ".join(f"{value:>9}" for value in _row(cases).values())
    return f"{command:<13} {kind:<24} {len(cases):>5} {drawn:>5} {cold:>5} {figures} "


def _quote(cases: Sequence[Outcome]) -> None:
    """Show how each kind was told, in the words of one case of each command, and what went wrong."""
    print("\nHow it was told (one case of each; paths shortened):")
    seen = set()
    for case in sorted(cases, key=lambda case: (case.kind, case.command)):
        if case.hit and case.told and (case.kind, case.command) not in seen:
            seen.add((case.kind, case.command))
            print(f"  {case.kind}, {case.command}:")
            print("\n".join(f"    {line[:300]}" for line in case.told[0].split(" | ")))
    for case in cases:
        if case.bad:
            print(f"  BROKEN: {case}")
