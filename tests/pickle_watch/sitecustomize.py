"""Watches every unpickling of a Python process and of its children, and refuses what does not come through a pipe.

Python runs this file first wherever its folder is on PYTHONPATH. Each unpickling becomes a line of JSON in the file
that VA_PICKLE_LOG names. Python's audit event tells of every global that an unpickler looks up, but not of pickles
without one, nor of torch's own unpickler: `pickle.load`, `loads` and `Unpickler`, `torch.load` and `numpy.load` with
`allow_pickle` are watched too.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import pickle
import stat
import sys
from types import FrameType, ModuleType
from typing import Any

LOG = os.environ.get("VA_PICKLE_LOG", "")

PIPES = {
    ("multiprocessing/spawn.py", "_main"),  # what a new process shall do, from the one that started it
    ("multiprocessing/connection.py", "recv"),
    ("multiprocessing/queues.py", "get"),
}
"""Where multiprocessing itself unpickles what came through its own pipes."""


class PickleLoadedError(BaseException):
    """Something was unpickled that did not come through a pipe; no `except Exception` hides it."""


def caller() -> FrameType:
    """The frame that asked for unpickling: the innermost one that is neither here nor in the pickle module."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename in (__file__, pickle.__file__):
        frame = frame.f_back
    return frame


def descriptor(frame: FrameType, source: Any) -> int | None:
    """What the pickle is read from, where that can be told: a file's descriptor, or the connection's."""
    if hasattr(source, "fileno") and not isinstance(source, io.BytesIO):
        return int(source.fileno())
    handle = getattr(frame.f_locals.get("self"), "_handle", None)
    return handle if isinstance(handle, int) else None


def note(what: str, source: Any = None) -> None:
    frame = caller()
    place = (frame.f_code.co_filename, frame.f_code.co_name)
    number = descriptor(frame, source)
    piped = number is None or not stat.S_ISREG(os.fstat(number).st_mode)
    allowed = piped and any(place[0].endswith(f"/{file}") and place[1] == name for file, name in PIPES)
    line = {"what": what, "file": place[0], "function": place[1], "allowed": allowed, "pid": os.getpid()}
    if LOG:
        target = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(target, (json.dumps(line) + "\n").encode())
        os.close(target)
    if not allowed:
        raise PickleLoadedError(f"{what} in {place[0]}, {place[1]}")


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        note(f"find_class {arguments[0]}.{arguments[1]}")


class Watched:
    """A function that tells before it does what it did."""

    def __init__(self, what: str, real: Any) -> None:
        self.what, self.real = what, real

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.what != "numpy.load" or named.get("allow_pickle") or (len(arguments) > 2 and arguments[2]):
            note(self.what, arguments[0] if arguments else None)
        return self.real(*arguments, **named)


class Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, **named: Any) -> None:
        super().__init__(file, **named)
        self._watched_source = file

    def load(self) -> Any:
        note("pickle.Unpickler.load", self._watched_source)
        return super().load()


LATER = {
    "torch.serialization": ("load", "torch.load"),
    "torch._weights_only_unpickler": ("load", "torch's own unpickler"),
    "numpy.lib._npyio_impl": ("load", "numpy.load"),
}
"""Functions of modules that are not imported yet, and what to call them."""


class Finder(importlib.abc.MetaPathFinder):
    """Puts `Watched` around a function as soon as its module was imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in LATER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None and spec.loader is not None
        real = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            real(module)
            function, what = LATER[name]
            setattr(module, function, Watched(what, getattr(module, function)))

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if LOG:
    pickle.load = Watched("pickle.load", pickle.load)
    pickle.loads = Watched("pickle.loads", pickle.loads)
    pickle.Unpickler = Unpickler  # type: ignore[misc]
    sys.meta_path.insert(0, Finder())
    sys.addaudithook(hook)
