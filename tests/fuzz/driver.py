"""What the targets of this folder share: atheris draws a file's content, a reader must read it or say why not.

Atheris is no dependency (`pip install atheris`); `make fuzz` installs it and gives each target a minute. A target ends
with atheris's report of the first content that met anything but a `VAError` of two lines, and leaves it as `crash-*`.
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import atheris

from va.errors import VAError


@contextlib.contextmanager
def instrumented() -> Iterator[None]:
    """Import what is to be fuzzed in this block: atheris follows which of its lines run."""
    with atheris.instrument_imports(include=["va"]):
        yield


def run(read: Callable[[Path], object], *, name: str, seeds: Sequence[bytes]) -> None:
    """Fuzz until the time of the command line is over.

    Args:
        read: A reader of one file.
        name: Of that file.
        seeds: Good contents to begin with.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path, start = Path(folder) / name, Path(folder) / "seeds"
        start.mkdir()
        for number, seed in enumerate(seeds):
            (start / str(number)).write_bytes(seed)

        def once(content: bytes) -> None:
            path.write_bytes(content)
            try:
                read(path)
            except VAError as error:
                assert str(path) in error.message and error.hint and "\n" not in error.message

        atheris.Setup([*sys.argv, str(start)], once)
        atheris.Fuzz()
