"""Train the two tiny encoders that ship in `va/extract/demo/`: weights, configuration and model card of each.

Why here: the demo and the tests need encoders that are small, free and known to work on the synthetic corpus.
Run from the repository root, best with a GPU (a few minutes; `--frames 2000 --windows 60 --clip-steps 40
--ast-steps 20 --identities 50` proves it on a CPU):

    python scripts/train_demo_encoders.py --workers 16
"""

import argparse
import os
import shlex
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Also in the worker processes, which run this file anew under another name.
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--identities", type=int, default=6000, help="people to train on, for each encoder")
    parser.add_argument("--frames", type=int, default=240_000, help="pictures to train on")
    parser.add_argument("--windows", type=int, default=20_000, help="10 s windows to train on")
    parser.add_argument("--clip-steps", type=int, default=5000)
    parser.add_argument("--ast-steps", type=int, default=4000)
    parser.add_argument("--clip-batch", type=int, default=1024)
    parser.add_argument("--ast-batch", type=int, default=64)
    parser.add_argument("--budget-s", type=float, default=130.0, help="longest training of each encoder, seconds")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--only", choices=("clip", "ast"))
    parser.add_argument("--out", type=Path, default=ROOT / "va" / "extract" / "demo")
    options = parser.parse_args()
    options.command = shlex.join(["python", "scripts/train_demo_encoders.py", *sys.argv[1:]])
    return options


def main() -> None:
    """Make the encoders asked for."""
    options = parse()
    # Imported late: worker processes import this file too and need no torch.
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"device {device}, {options.workers} workers", flush=True)
    started = time.monotonic()
    from demo_encoders import tiny_ast, tiny_clip

    # Voices are rendered while the image encoder trains: one needs the processors, the other the GPU.
    with ThreadPoolExecutor(1) as background:
        voices: list[tuple[float, Future[Any]]] = []

        def begin_voices() -> None:
            if options.only != "clip":
                voices.append((time.monotonic(), background.submit(tiny_ast.render, options)))

        if options.only != "ast":
            tiny_clip.make(options, device, begin_voices)
        else:
            begin_voices()
        for began, future in voices:
            examples, held_out = future.result()
            tiny_ast.make(options, device, examples, held_out, began)
    print(f"done in {time.monotonic() - started:.0f} s; files in {options.out}", flush=True)


if __name__ == "__main__":
    main()
