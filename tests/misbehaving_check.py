"""A checking process whose decoder misbehaves on some media; a module of its own: the child finds it by name."""

import os
import signal
import time
from typing import Any

from va.extract.checking import opening


def serve(*arguments: Any) -> None:
    """Runs in the child process, where nothing else is patched."""
    probe = opening.media.probe

    def misbehave(path: Any, *, beat: Any) -> Any:
        if path.stem == "hang":
            while True:
                time.sleep(60)
        if path.stem == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if path.stem == "memory":
            return bytearray(10_000_000_000)
        if path.stem == "liar":
            print("to nobody", flush=True)
            os._exit(3)
        return probe(path, beat=beat)

    opening.media.probe = misbehave  # type: ignore[assignment]
    opening.serve(*arguments)
