"""Ray: a cluster joined or started, and tasks on it. The only module that imports it; all scheduling is Ray's own.

Workers are processes of Ray on machines that share a folder: what goes between them and the command is names of clips,
settings and counts, never features. Ray runs the tasks, runs those of a lost worker again, and ends its processes.
"""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic

from va import cores, files, signals
from va.engine import scratch, tasks
from va.engine.config import EngineSettings
from va.engine.tasks import Item, Place, Result, Stopping
from va.errors import VAError
from va.version import __version__

_RETRIES: Final = 5
"""How often Ray runs a task again whose worker died: each time the task finds what was done, and goes on from there."""

_DEFAULT_CPUS: Final = 4
_STORE_BYTES: Final = 80 << 20
_TICK_S: Final = 0.5
_ANSWER_S: Final = 10.0
_START_S: Final = 120.0
_NO_PLUGINS: Final = {"HDF5_PLUGIN_PATH": "::"}
"""As the command sets it for itself."""

_QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Of dead workers, which are nothing to do for the user, it would tell on standard output, where results go.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    # Ray would end processes when the machine, not only they, runs out of memory; the local engine does not.
    "RAY_memory_monitor_refresh_ms": "0",
    # It would give workers what other processes leave of the cores, by `nice`; so too.
    "RAY_worker_niceness": "0",
    # What Ray is moving to: a task without GPUs sees them all, and does not use them.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True, kw_only=True)
class Ended(Generic[Item, Result]):
    """What became of a task.

    Args:
        item: What it was about.
        result: What it returned; None where it was lost, or stopped before it began.
        lost: Why it was lost, after all retries; empty otherwise.
    """

    item: Item
    result: Result | None
    lost: str


class Cluster:
    """A cluster that tasks can be sent to; `joined` makes it.

    Args:
        ray: The library.
        place: What tasks need to see.
        gpus: Of one task.

    Attributes:
        cpus: Cores of one task.
    """

    def __init__(self, ray: Any, *, place: Place, gpus: float) -> None:
        self.cpus = place.cpus
        self._ray = ray
        self._place = place
        self._work = ray.remote(tasks.work).options(num_cpus=place.cpus, num_gpus=gpus, max_retries=_RETRIES)

    def run(
        self, function: Callable[[Item, Stopping], Result], items: Sequence[Item], *, stopping: Stopping
    ) -> Iterator[Ended[Item, Result] | None]:
        """Run a task per item, and yield each as it ends; and None twice a second, for those who watch.

        Args:
            function: The work, a function at the top of a module; what it takes and returns travels by Ray's pickle.
            items: What to do it to.
            stopping: True ends the tasks that run, as they see fit, and those that wait at once.

        Raises:
            VAError: A task has raised it.
        """
        errors = self._ray.exceptions
        running = {self._work.remote(self._place, function, item): item for item in items}
        stopped = False
        while running:
            if not stopped and stopping():
                stopped = True
                for reference in running:
                    self._ray.cancel(reference, force=False)
            ended, _ = self._ray.wait(list(running), timeout=_TICK_S)
            for reference in ended:
                item = running.pop(reference)
                try:
                    result = self._ray.get(reference)
                except errors.TaskCancelledError:
                    yield Ended(item=item, result=None, lost="")
                except errors.RayTaskError:  # a mistake of ours, with its traceback
                    raise
                except errors.RayError as error:
                    yield Ended(item=item, result=None, lost=_first_line(error))
                else:
                    if isinstance(result, VAError):
                        raise result
                    yield Ended(item=item, result=result, lost="")
            yield None

    def one(self, function: Callable[[Item, Stopping], Result], item: Item) -> Result:
        """Run one task and wait for it.

        Raises:
            VAError: The task has raised it, or its workers were lost.
        """
        (ended,) = (one for one in self.run(function, [item], stopping=lambda: False) if one is not None)
        if ended.result is None:
            raise VAError(
                f"the worker processes of a Ray task were lost {_RETRIES + 1} times ({ended.lost})",
                "Check memory and logs on the machines of the cluster, then run the same command again.",
            )
        return ended.result


@contextlib.contextmanager
def joined(settings: EngineSettings, *, device: str, seen: Sequence[Path]) -> Iterator[Cluster]:
    """Join a cluster, or start one on this machine that ends with the block.

    Args:
        settings: Which cluster, and what a task gets.
        device: Of the work, as in `--device`.
        seen: Files and folders that all machines must see.

    Raises:
        VAError: Ray is not installed, no cluster answers, or a machine of it cannot run the tasks.
    """
    ray = _load()
    with _started(ray, settings), _mark(seen) as marked:
        machines = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        smallest = min((int(node["Resources"]["CPU"]) for node in machines), default=_DEFAULT_CPUS)
        cpus = settings.task_cpus or min(_DEFAULT_CPUS, smallest)
        gpus = settings.task_gpus
        if gpus < 0:
            gpus = float(device != "cpu" and any(node["Resources"].get("GPU", 0) >= 1 for node in machines))
        wanted = {"CPU": cpus, "GPU": gpus}
        able = [node for node in machines if all(node["Resources"].get(name, 0) >= wanted[name] for name in wanted)]
        if not able:
            raise VAError(
                f"no machine of the Ray cluster has {cpus} cores and {gpus:g} GPUs for a task",
                "Lower --task-cpus or --task-gpus, or join a cluster that has them.",
            )
        place = Place(version=__version__, folder=str(Path.cwd()), seen=marked, cpus=cpus)
        _look_around(ray, able, place)
        yield Cluster(ray, place=place, gpus=gpus)


def _load() -> Any:
    """Import Ray, without what importing it does to this process."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    in_environment = any(map(os.environ.get, ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")))
    if in_environment or Path("~/.ray/auth_token").expanduser().exists():
        # Clusters started where there is a token ask for it, but joining them by address does not send it by itself.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    hook = sys.excepthook
    try:
        with _signals_kept():
            import ray
    except ImportError as error:
        raise VAError(
            f"--engine ray: Ray is not installed ({_first_line(error)})",
            "Install it: pip install 'ray>=2.51,<3'.",
        ) from None
    sys.excepthook = hook
    return ray


@contextlib.contextmanager
def _started(ray: Any, settings: EngineSettings) -> Iterator[None]:
    """Be connected to a cluster, joined or started, inside the block."""
    address = settings.ray_address
    threads = settings.task_cpus or _DEFAULT_CPUS
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    with contextlib.ExitStack() as stack:
        if address:
            _require_answer(address)
        else:
            address, threads = "local", settings.task_cpus or min(_DEFAULT_CPUS, cores.count())
            options |= {"num_cpus": cores.count(), "include_dashboard": False, "object_store_memory": _STORE_BYTES}
            options["_temp_dir"] = stack.enter_context(scratch.folder())
        options["runtime_env"] = {"env_vars": cores.environment(threads) | _NO_PLUGINS}
        stack.enter_context(signals.exiting())
        stack.callback(ray.shutdown)
        try:
            with _signals_kept():
                ray.init(address, **options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            if not settings.ray_address:
                raise VAError(
                    f"--engine ray: Ray does not start on this machine ({_first_line(error)})",
                    "Check free memory and space below TMPDIR, or join a cluster with --ray-address.",
                ) from None
            raise VAError(
                f"--ray-address {settings.ray_address}: cannot be joined ({_first_line(error)})",
                "Run the command on a machine of the cluster, with its versions of Python and Ray and its token.",
            ) from None
        yield


def _require_answer(address: str) -> None:
    """Look whether anything answers: Ray itself would wait for two minutes, and then end this process."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except ValueError:
        raise VAError(f"--ray-address: {address!r} is no address", "Give HOST:PORT, or auto.") from None
    except OSError as error:
        raise VAError(
            f"--ray-address {address}: no Ray cluster answers there ({error.strerror or error})",
            "Start one with 'ray start --head', which prints its address.",
        ) from None


def _look_around(ray: Any, machines: list[dict[str, Any]], place: Place) -> None:
    """Ask every machine whether it can run the tasks."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    answers = []
    for node in machines:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked = ray.remote(tasks.look).options(num_cpus=0, max_retries=_RETRIES, scheduling_strategy=there)
        answers.append((f"machine {node['NodeManagerAddress']} of the Ray cluster", asked.remote(place)))
    for name, answer in answers:
        try:
            found = ray.get(answer, timeout=_START_S)
        except ray.exceptions.RayError as error:
            reason = _first_line(getattr(error, "cause", None) or error)  # what a task has raised, not its traceback
            raise VAError(f"{name}: cannot start va ({reason})", "Install va with the extra 'ray' there.") from None
        if found is not None:
            raise VAError(f"{name}: {found.message}", found.hint)


@contextlib.contextmanager
def _mark(seen: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """Add a file in each folder to what must be seen: another machine's folder of the same name does not have it."""
    marks = []
    with contextlib.ExitStack() as stack:
        for path in seen:
            if path.is_dir() and os.access(path, os.W_OK):
                mark = files.temporary_beside(path / "seen")
                files.write_text(mark, "")
                stack.callback(mark.unlink, missing_ok=True)
                marks.append(mark)
        yield (*seen, *marks)


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep signals from processes that start meanwhile, and put back handlers of this one, which Ray replaces.

    A signal to all of us is for this process to hear: it decides what is finished, then ends the others.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            with contextlib.suppress(ValueError):  # another thread than the main one may not, and Ray has not either
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
