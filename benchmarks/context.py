"""Does learned context before the region texts change anything, and what does a step with it cost?

Needs a corpus and features with a text tower, e.g. the demo's:

    va demo --out demo
    va prompts demo/features --tower
    python benchmarks/context.py demo/corpus demo/features --out demo/context

For each seed one head is trained without and one with M context vectors (`va train --context`); beside the CCC stands
the cross-entropy of region labels (paper eq. 2) and region probabilities, both on the validation split, and their
differences paired by seed. First comes what a training step of one head of the paper's size (batch 16) costs with no
tower, with one of the demo encoder's size, and with one of ViT-B/16's size, all with random weights: processor time
on one core, so that other work on the machine counts less.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import region_term
import torch

from va.data.windows import WindowBatch
from va.evaluate import score
from va.evaluate.config import EvaluateConfig
from va.model.head import VAHead
from va.model.text import RegionTexts
from va.train import checkpoint, runs
from va.train.config import TrainConfig
from va.train.stack import Stack
from va.train.state import TrialState, new_generator

TOWERS = {"none": None, "tiny-clip": (2, 32, 2, 24, 128), "ViT-B/16": (12, 512, 8, 77, 512)}
"""Layers, width, heads, places and embedding of text towers."""

LONGEST = 11
"""Tokens of the paper's longest region text, its end included."""


def pairs(options: argparse.Namespace) -> dict[str, object]:
    """Train with and without context for every seed and print the pairs."""
    found: dict[str, dict[int, list[float]]] = {name: {0: [], options.context: []} for name in ("ccc", "entropy")}
    configs = [
        TrainConfig(
            corpus=options.corpus,
            features=options.features,
            out=options.out,
            seed=seed,
            context=count,
            epochs=options.epochs,
            patience=options.patience,
            learning_rate=options.learning_rate,
            device="cpu",
        )
        for seed in range(options.seeds)
        for count in (0, options.context)
    ]
    directories = runs.train(configs, epoch_done=lambda config, line: None)
    print(f"{'seed':>4}  {'context':>7}  {'cross-entropy':>13}  {'CCC mean':>8}")
    for config, directory in zip(configs, directories, strict=True):
        count = config.context
        report = EvaluateConfig(run=directory, out=directory / "report", resamples=1, device="cpu")
        figures = score.run(report, progress=lambda done, total, what: None)
        found["ccc"][count].append(figures["rows"][0]["abaw"]["ccc_mean"]["value"])
        found["entropy"][count].append(region_term.held_out_cross_entropy(checkpoint.load_run(directory)))
        print(
            f"{config.seed:>4}  {count:>7}  {found['entropy'][count][-1]:>13.4f}  {found['ccc'][count][-1]:>8.4f}",
            flush=True,
        )
    answer: dict[str, object] = {"seeds": options.seeds, "context": options.context}
    for name, values in found.items():
        differences = [with_it - without for without, with_it in zip(*values.values(), strict=True)]
        low, high = region_term.interval(differences)
        mean = statistics.mean(differences)
        print(f"{name}: {options.context} minus 0: {mean:+.4f}, 95% interval {low:+.4f} to {high:+.4f}")
        answer[name] = {"difference": mean, "low": low, "high": high, "values": values}
    return answer


def step_ms(tower: tuple[int, int, int, int, int] | None, *, count: int, steps: int) -> float:
    """Median milliseconds of processor time of a training step of one head, through the tower where there is one."""
    torch.manual_seed(0)
    dim = tower[4] if tower else 512
    head = VAHead(
        frame_dim=512,
        audio_dim=768,
        audio_cnn=False,
        prototypes=torch.randn(9, dim),
        width=256,
        num_heads=4,
        modalities="both",
        target="frames",
        tcn=None,
        fusion="hierarchical",
        init_scale=10.0,
        standardise=False,
    )
    texts = None
    if tower is not None:
        layers, width, heads, places, _ = tower
        head.region_head.add_context(count=count, width=width)
        texts = RegionTexts(
            regions=9,
            longest=LONGEST,
            places=places,
            width=width,
            hidden=4 * width,
            layers=layers,
            heads=heads,
            dim=dim,
            activation="quick_gelu",
            eps=1e-5,
        )
        for buffer in (texts.start, texts.words, texts.positions, texts.projection):
            buffer.normal_(std=0.02)
        texts.lengths.fill_(LONGEST)
    device = torch.device("cpu")
    state = TrialState(weights=head.state_dict(), order=new_generator(0, device), dropout=new_generator(1, device))
    config = TrainConfig(corpus=Path("c"), features=Path("f"), out=Path("o"), context=count if tower else 0)
    stack = Stack(head, configs=[config], states=[state], device=device, texts=texts)
    everywhere = torch.ones(1, 16, 20, dtype=torch.bool)
    batch = WindowBatch(
        frames=torch.randn(1, 16, 20, 512),
        frame_valid=everywhere,
        audio=torch.randn(1, 16, 20, 768),
        audio_valid=everywhere,
        target=torch.rand(1, 16, 20, 2) * 2 - 1,
        target_valid=everywhere,
    )
    spent = []
    for _ in range(steps + 3):
        started = time.process_time()
        stack.step(batch, active=[True], total_steps=[steps])
        spent.append(time.process_time() - started)
    return 1000 * statistics.median(spent[3:])


def main() -> None:
    """Print the times, then the pairs unless only times are wanted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("features", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--context", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    answer: dict[str, object] = {"benchmark": "context"}
    for name, tower in TOWERS.items():
        answer[name] = step_ms(tower, count=options.context, steps=options.steps)
        print(f"a step with the text tower of {name}: {answer[name]:.0f} ms", flush=True)
    if options.corpus and options.features and options.out:
        answer |= pairs(options)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
