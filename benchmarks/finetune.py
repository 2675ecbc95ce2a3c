"""Fine-tuning: what it needs at full size, what it gains at tiny size. Sections, each a table; then one JSON line.

    python benchmarks/finetune.py                        (all sections)
    python benchmarks/finetune.py --sections memory      (about 3 minutes on two cores)
    python benchmarks/finetune.py --sections gain        (under 10 minutes on two cores)

memory: what an update of 16 windows needs, computed by running it on tensors without memory, for each way to do it;
then one update of `--windows` windows done here, and its peak beside what was computed for it. On a GPU also seconds
per update and the share of the chip's peak.

gain: fine-tuned against the same number of further epochs of the head alone, on a corpus drawn in a style that the demo
encoders were not trained on (`finetune_gain.py`).
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import finetune_gain
import finetune_memory

SECTIONS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "memory": finetune_memory.section,
    "gain": finetune_gain.section,
}


def main() -> None:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which, separated by commas")
    finetune_memory.add_options(parser)
    finetune_gain.add_options(parser)
    given = parser.parse_args()
    answer: dict[str, Any] = {"benchmark": "finetune"}
    for name in given.sections.split(","):
        answer[name] = SECTIONS[name](given)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
