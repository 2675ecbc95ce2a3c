"""One of several processes that train as one: `rank_worker.py plain|real FOLDER`. Writes what it has seen to a file."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_towers import CPU, gradients, make_head, make_towers, one_pass, plain, plain_inputs, real, real_inputs

from va.train.finetuning.parallel import Parallel
from va.train.finetuning.window_inputs import WindowInputs

BATCHES = (5, 1, 4)
"""Windows of each update: not divisible by two, a process without any, divisible."""


def train(parallel: Parallel, *, kind: str) -> dict[str, torch.Tensor]:
    """Make three updates; give gradients before each and the state afterwards."""
    make, draw, dtype = (real, real_inputs, torch.float32) if kind == "real" else (plain, plain_inputs, torch.float64)
    pair = make()
    towers = make_towers(pair, parallel, ema=0.9, clip_norm=0.01, micro_batch=2, learning_rate=1e-3)
    found = {}
    for number, count in enumerate(BATCHES):
        head = make_head(pair, dtype)
        batch = draw(count, seed=number)
        mine = WindowInputs(*(each[parallel.share(count)] for each in batch))
        found[f"{number}/loss"] = one_pass(towers, head, mine)
        for name, gradient in gradients(towers).items():
            parallel.all_reduce(gradient)
            found[f"{number}/{name}"] = gradient
        for name, parameter in head.named_parameters():
            found[f"{number}/head/{name}"] = torch.zeros(()) if parameter.grad is None else parameter.grad
        towers.update(factor=1.0)
    return found | towers.state()


def main() -> None:
    parallel = Parallel.launched(CPU)
    sent = torch.arange(3 * parallel.rank).view(-1, 3) + 100 * parallel.rank
    extra = {
        "gathered": parallel.gather(sent),
        "mask": parallel.gather(torch.tensor([parallel.rank == 1])),
        "world": torch.tensor([parallel.rank, parallel.world, int(parallel.leads)]),
    }
    told = torch.tensor([parallel.rank + 5])
    parallel.broadcast(told)
    parallel.barrier()
    results = train(parallel, kind=sys.argv[1]) | extra | {"told": told}
    results = {name: tensor.detach().clone().contiguous() for name, tensor in results.items()}
    save_file(results, Path(sys.argv[2]) / f"{parallel.rank}.safetensors")
    parallel.close()


if __name__ == "__main__":
    main()
