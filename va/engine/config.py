"""Settings of the engine. Standard library only, so that `va --help` stays quick."""

from dataclasses import dataclass
from typing import Literal

from va.errors import VAError
from va.settings import outside_digest, require


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Where work runs; results do not depend on it."""

    engine: Literal["local", "ray"] = outside_digest(default="local")
    """Where the work runs: in this process, or as tasks on Ray, here or on a cluster that sees the same folders
    (docs/scale-out.md; needs the package's extra 'ray')."""

    ray_address: str = outside_digest(default="")
    """Ray cluster to join: HOST:PORT of its head, or auto for the one that runs on this machine. Only join a cluster
    that you trust. By default one is started on this machine and ended with the command."""

    task_cpus: int = outside_digest(default=0)
    """With Ray: processor cores of one task, and threads in it; 0 for four, or as many as the smallest machine has."""

    task_gpus: float = outside_digest(default=-1.0)
    """With Ray: GPUs of one task, below 1 for several tasks on one GPU; -1 for one where the cluster has GPUs and
    --device is not cpu."""

    def check_engine(self) -> None:
        """Check ranges."""
        if self.ray_address and self.engine != "ray":
            raise VAError("--ray-address: is of no use to the local engine", "Give --engine ray too.")
        if self.ray_address.startswith("ray://"):
            raise VAError(
                f"--ray-address: {self.ray_address!r} asks for the Ray Client, which is not supported",
                "Give HOST:PORT of the head, and run the command on a machine of the cluster.",
            )
        require(
            0 <= self.task_cpus <= 1024, option="--task-cpus", value=self.task_cpus, expected="a number from 0 to 1024"
        )
        whole = self.task_gpus.is_integer() and 0 <= self.task_gpus <= 64
        require(
            self.task_gpus == -1 or 0 <= self.task_gpus < 1 or whole,
            option="--task-gpus",
            value=self.task_gpus,
            expected="-1, a number below 1, or a whole number",
        )
