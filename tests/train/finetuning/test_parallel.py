"""Two real processes under torch's own launcher against one with the whole batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import rank_worker
import torch
from safetensors.torch import load_file
from torch import Tensor

from va.errors import VAError
from va.train.finetuning.parallel import Parallel

CPU = torch.device("cpu")
TESTS = Path(rank_worker.__file__).parent


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | more


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What two processes have found, started as torchrun would, but for itself, which takes as long as each of them."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(found.getsockname()[1]), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, rank_worker.__file__, "plain", str(folder)],
            env=environment(RANK=rank, LOCAL_RANK=rank, **meeting),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        for process in processes:
            _, said = process.communicate(timeout=200)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
    return [load_file(folder / f"{rank}.safetensors") for rank in (0, 1)]


def test_two_processes_give_the_gradients_of_one(ranks: list[dict[str, Tensor]]) -> None:
    alone = rank_worker.train(Parallel.alone(CPU), kind="plain")
    for found in ranks:
        assert found.keys() == alone.keys() | {"gathered", "mask", "world", "told"}
        for name, expected in alone.items():
            torch.testing.assert_close(found[name], expected, rtol=1e-10, atol=1e-15, msg=name)


@pytest.mark.slow
def test_two_processes_of_torchrun_with_transformers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [rank_worker.__file__, "real", str(tmp_path)]
    subprocess.run(command, env=environment(), check=True, timeout=280)
    alone = rank_worker.train(Parallel.alone(CPU), kind="real")
    found = load_file(tmp_path / "1.safetensors")
    for name, expected in alone.items():
        if name.startswith("0/"):  # later ones start from weights of which AdamW has made roundings larger
            scale = float(expected.abs().max())
            torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-5 * scale + 1e-8, msg=name)


def test_processes_stay_the_same_to_the_bit(ranks: list[dict[str, Tensor]]) -> None:
    one, other = ranks
    kept = [name for name in one if name != "world"]
    assert len(kept) > 100
    assert all(torch.equal(one[name], other[name]) for name in kept)


def test_tensors_of_different_lengths_are_joined_in_order(ranks: list[dict[str, Tensor]]) -> None:
    for rank, found in enumerate(ranks):
        assert found["gathered"].tolist() == [[100, 101, 102]]
        assert found["mask"].tolist() == [False, True] and found["mask"].dtype == torch.bool
        assert found["world"].tolist() == [rank, 2, int(rank == 0)]
        assert found["told"].tolist() == [5]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 16])
@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_shares_cover_a_batch_evenly(count: int, world: int) -> None:
    shares = [range(count)[Parallel(rank=rank, world=world, device=CPU).share(count)] for rank in range(world)]
    assert [window for share in shares for window in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    parallel = Parallel.launched(CPU)
    assert parallel == Parallel.alone(CPU) and parallel.leads
    values = torch.ones(2)
    parallel.all_reduce(values)
    parallel.broadcast(values)
    parallel.barrier()
    parallel.close()
    assert parallel.gather(values) is values and values.tolist() == [1, 1]


def test_an_incomplete_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(VAError, match="another process of this training cannot be reached"):
        Parallel.launched(CPU)


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(VAError, match="process 1 of this machine, but torch sees 1 GPUs"):
        Parallel.launched(torch.device("cuda"))
