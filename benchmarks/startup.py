"""How long `va --help` takes beside a two-command typer program, in one run: a table, then one JSON line.

python benchmarks/startup.py
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 15
PROGRAM = """
import typer
app = typer.Typer()
@app.command()
def one(name: str): "One."
@app.command()
def two(name: str): "Two."
app()
"""


def main() -> None:
    """Time both in turn, so that a change of the machine's speed meets both."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text(PROGRAM)
        commands = {
            "va --help": [sys.executable, "-m", "va.cli", "--help"],
            "two-command typer program --help": [sys.executable, str(program), "--help"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, capture_output=True, check=True)
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["va --help"] / medians["two-command typer program --help"]
    for name, median in medians.items():
        print(f"{name:<36} {median * 1000:7.0f} ms (median of {RUNS})")
    print(f"{'ratio (bar: 2)':<36} {ratio:7.2f}")
    print(json.dumps({"benchmark": "startup", "runs": RUNS, "seconds": medians, "ratio": ratio}))


if __name__ == "__main__":
    main()
