"""Does the region term teach regions? Paired over seeds, on clips whose people were not trained on.

Needs a corpus and features, e.g. the demo's:

    va demo --out demo
    python benchmarks/region_term.py demo/corpus demo/features --out demo/region_term

For each seed one head is trained with lambda = 0 and one with lambda = 0.2 (paper eq. 6); the figure is the
cross-entropy between soft labels (paper eq. 2) and region probabilities on the validation split. Beside it stands
what the term does to the CCC, whatever that is.
"""

import argparse
import json
import math
import statistics
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from va.evaluate import score
from va.evaluate.config import EvaluateConfig
from va.model.inference import predict_windows
from va.model.prompts import region_centers, soft_labels
from va.train import checkpoint, runs
from va.train.config import TrainConfig
from va.train.data import load_pool, open_data

WEIGHTS = (0.0, 0.2)


def held_out_cross_entropy(run: checkpoint.Run) -> float:
    """Mean cross-entropy in nats over the labelled cells of all validation windows."""
    data = open_data(run.config)
    windows = load_pool(run.config, data, data.corpus.split("val"), torch.device("cpu"))
    everything = windows.batch(torch.arange(len(windows)))

    def inputs(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return windows.batch(index)[:4]

    found = predict_windows(run.head, inputs=inputs, index=torch.arange(len(windows)), batch_size=64)
    soft = soft_labels(everything.target, region_centers(run.config.centers), run.config.sigma).double().numpy()
    entropy = -(soft * np.log(found.regions)).sum(axis=-1)
    return float(entropy[everything.target_valid.numpy()].mean())


def interval(differences: list[float]) -> tuple[float, float]:
    """95% interval of a mean by Student's t (two-sided), from the pairs."""
    from scipy import stats

    half = stats.t.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / math.sqrt(len(differences))
    return statistics.mean(differences) - half, statistics.mean(differences) + half


def main() -> None:
    """Train both for every seed and print the pairs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    options = parser.parse_args()
    entropy: dict[float, list[float]] = {weight: [] for weight in WEIGHTS}
    ccc: dict[float, list[float]] = {weight: [] for weight in WEIGHTS}
    print(f"{'seed':>4}  {'lambda':>6}  {'cross-entropy':>13}  {'CCC mean':>8}")
    for seed in range(options.seeds):
        for weight in WEIGHTS:
            config = TrainConfig(
                corpus=options.corpus,
                features=options.features,
                out=options.out,
                seed=seed,
                region_weight=weight,
                learning_rate=options.learning_rate,
                device="cpu",
            )
            (directory,) = runs.train([config], epoch_done=lambda config, line: None)
            report = EvaluateConfig(run=directory, out=directory / "report", resamples=1, device="cpu")
            figures = score.run(report, progress=lambda done, total, what: None)
            entropy[weight].append(held_out_cross_entropy(checkpoint.load_run(directory)))
            ccc[weight].append(figures["rows"][0]["abaw"]["ccc_mean"]["value"])
            print(f"{seed:>4}  {weight:>6}  {entropy[weight][-1]:>13.4f}  {ccc[weight][-1]:>8.4f}", flush=True)
    answer: dict[str, object] = {"benchmark": "region_term", "seeds": options.seeds}
    for name, values in (("cross_entropy", entropy), ("ccc_mean", ccc)):
        differences = [with_term - without for without, with_term in zip(*values.values(), strict=True)]
        low, high = interval(differences)
        print(f"{name}: 0.2 minus 0: {statistics.mean(differences):+.4f}, 95% interval {low:+.4f} to {high:+.4f}")
        answer[name] = {"difference": statistics.mean(differences), "low": low, "high": high}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
