"""Ray: a cluster joined or started, and tasks on it. The only module that imports it; all scheduling is Ray's own.

Workers are processes of Ray on machines that share a folder: what goes between them and the command is names of clips,
settings and counts, never features. Ray runs the tasks, runs those of a lost worker again, and ends its processes.
"""

import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final, Generic

from va import cores, files
from va.engine import tasks
from va.engine.config import EngineSettings
from va.engine.tasks import Done, Item, Place, Refused, Result, Stopping
from va.errors import VAError
from va.version import __version__

_RETRIES: Final = 5
"""How often Ray runs a task again whose worker died: each time the task finds what was done, and goes on from there."""

_DEFAULT_CPUS: Final = 4
_STORE_BYTES: Final = 80 << 20
_LONGEST_FOLDER: Final = 30
"""Ray's socket paths are some 75 bytes longer than its folder, and the kernel allows 107."""

_TICK_S: Final = 0.5
_ANSWER_S: Final = 10.0
_START_S: Final = 120.0
_QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Of dead workers, which are nothing to do for the user, it would tell on standard output, where results go.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    # Ray would end processes when the machine, not only they, runs out of memory; the local engine does not.
    "RAY_memory_monitor_refresh_ms": "0",
    # What Ray is moving to: a task without GPUs sees them all, and does not use them.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

_TOKENS: Final = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_TOKEN: Final = Path("~/.ray/auth_token")


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
                    yield Ended(item=item, result=_open(self._ray.get(reference)), lost="")
                except errors.TaskCancelledError:
                    yield Ended(item=item, result=None, lost="")
                except errors.RayTaskError:  # a mistake of ours, with its traceback
                    raise
                except errors.RayError as error:
                    yield Ended(item=item, result=None, lost=_first_line(error))
            yield None

    def one(self, function: Callable[[Item, Stopping], Result], item: Item) -> Result:
        """Run one task and wait for it.

        Raises:
            VAError: The task has raised it, or its workers were lost.
        """
        for ended in self.run(function, [item], stopping=lambda: False):
            if ended is not None and ended.result is not None:
                return ended.result
            if ended is not None:
                raise VAError(
                    f"the worker processes of a Ray task were lost {_RETRIES + 1} times ({ended.lost})",
                    "Check memory and logs on the machines of the cluster, then run the same command again.",
                )
        raise AssertionError("a task that has not ended")


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


def _open(answer: Done[Result] | Refused) -> Result:
    if isinstance(answer, Refused):
        raise VAError(answer.message, answer.hint)
    return answer.result


def _load() -> Any:
    """Import Ray, without what importing it does to this process."""
    if find_spec("ray") is None:
        raise VAError("--engine ray: Ray is not installed", "Run 'pip install valence-arousal[ray]'.")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if any(os.environ.get(name) for name in _TOKENS) or _TOKEN.expanduser().exists():
        # Clusters started where there is a token ask for it, but joining them by address does not send it by itself.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    hook = sys.excepthook
    with _handlers_kept():
        import ray
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
            options["_temp_dir"] = stack.enter_context(_short_folder())
        options["runtime_env"] = {"env_vars": cores.environment(threads)}
        stack.enter_context(_leaving_on_sigterm())
        stack.callback(ray.shutdown)
        try:
            with _deaf_children(), _handlers_kept():
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

    asked = ray.remote(tasks.look)
    strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in machines]
    answers = [
        asked.options(num_cpus=0, max_retries=_RETRIES, scheduling_strategy=strategy).remote(place)
        for strategy in strategies
    ]
    for node, answer in zip(machines, answers, strict=True):
        name = f"machine {node['NodeManagerAddress']} of the Ray cluster"
        try:
            found = ray.get(answer, timeout=_START_S)
        except ray.exceptions.RayError as error:
            reason = _first_line(error.cause) if isinstance(error, ray.exceptions.RayTaskError) else _first_line(error)
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
def _short_folder() -> Iterator[str]:
    """Give Ray a folder for its logs and sockets; removed in the end."""
    roots = [root for root in (tempfile.gettempdir(), "/tmp") if len(os.fsencode(root)) + 10 <= _LONGEST_FOLDER]
    if not roots:
        raise VAError(
            f"{tempfile.gettempdir()}: is too long a path for Ray's sockets", "Set TMPDIR to a folder like /tmp."
        )
    folder = tempfile.mkdtemp(prefix="va", dir=roots[0])
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Start processes that a signal to all of us does not reach: this one decides what is finished, then ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put back what Ray does to signals: its own handlers end the process, not the work."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(ValueError):  # another thread than the main one may not, and Ray has not either
                signal.signal(number, handler)


@contextlib.contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    """Where SIGTERM would end the process at once, let it tidy up first."""
    told = False

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        sys.exit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except SystemExit:
        if told:  # on its way through Ray an exit loses its number
            raise SystemExit(128 + signal.SIGTERM) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
