"""What a child process does instead of looking at media; a module of its own, because the child finds it by name."""

import os
import signal
import time
from multiprocessing.connection import Connection

from va.extract import probing

ANSWERS = {"list": b"[]", "no times": b'{"duration_s": 1}', "no number": b'{"duration_s": "x", "shape": [8]}'}


def serve(connection: Connection, how: str) -> None:
    """Answer the first request in a way that no honest process does."""
    connection.recv_bytes()
    if how in ANSWERS:
        connection.send_bytes(ANSWERS[how])
        time.sleep(60)
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(connection: Connection) -> None:
    """Serve as always, but with a decoder that hangs and little patience."""
    probing.STALL_S = 0.5  # type: ignore[misc]
    probing.media.probe = lambda path, beat: time.sleep(60)
    probing._serve(connection)
