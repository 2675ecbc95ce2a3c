"""The command `va` in a process of its own, which a case disturbs.

Forked from a process that has the libraries loaded, because importing torch a thousand times would take most of the
time; or, `cold`, started as a user starts it. Either way it is the command line's own `main` that runs.
"""

import contextlib
import ctypes
import datetime
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

_DROPPED: Final = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: why permissions do not count for root
_WITHOUT: Final = "-dac_override,-dac_read_search"


class Child:
    """A running command.

    Args:
        argv: Arguments of `va`.
        outputs: Base name of the two files that its outputs go to.
        cold: Start a Python of its own.
        limited: Permissions count for it, as they do for anybody but root.
        jump_s: Seconds by which its clock jumps when SIGUSR1 comes; not with `cold`.
        record: File for a line of each file that it writes: its path and the hash of what is in it; not with `cold`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        outputs: Path,
        *,
        cold: bool = False,
        limited: bool = False,
        jump_s: float = 0.0,
        record: Path | None = None,
    ) -> None:
        self._files = [outputs.with_suffix(suffix) for suffix in (".out", ".err")]
        self.code: int | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            if cold:
                wrapped = ["setpriv", f"--bounding-set={_WITHOUT}", f"--inh-caps={_WITHOUT}"] if limited else []
                command = [*wrapped, sys.executable, "-m", "va.cli", *argv]
                self._popen = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
                self.pid = self._popen.pid
                return
            self.pid = os.fork()
            if not self.pid:
                _be(argv, out.fileno(), err.fileno(), limited=limited, jump_s=jump_s, record=record)

    def poll(self) -> int | None:
        """Give the exit code, minus the signal's number where one ended it; None while it runs."""
        if self.code is None and self._popen is not None:
            self.code = self._popen.poll()
        elif self.code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if ended else None
        return self.code

    def wait(self, limit_s: float) -> int:
        """Wait for its end; a process that takes longer is killed with all of its own, and that is an error."""
        deadline = time.monotonic() + limit_s
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL, group=True)
                raise TimeoutError(f"not at an end after {limit_s:g} s; its last words: {self.stderr()[-500:]}")
            time.sleep(0.01)
        return self.code or 0

    def send(self, number: int, *, group: bool) -> None:
        """Send a signal to it, or to all of its processes."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def family(self) -> list[int]:
        """List its living processes, its own left out."""
        return [pid for pid in living(self.pid) if pid != self.pid]

    def stdout(self) -> str:
        """Give what it has printed."""
        return self._files[0].read_text(errors="replace")

    def stderr(self) -> str:
        """Give what it has said."""
        return self._files[1].read_text(errors="replace")


def living(session: int) -> list[int]:
    """List the processes of a session that are not dead."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(stat.parent.name))
    return found


def _be(argv: Sequence[str], out: int, err: int, *, limited: bool, jump_s: float, record: Path | None) -> None:
    """Be the command, in a process that was just forked; never returns."""
    code = 70
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        sys.argv = ["va", *argv]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if limited:
            _let_permissions_count()
        if jump_s:
            signal.signal(signal.SIGUSR1, lambda *_: _jump(jump_s))
        if record is not None:
            _record(record)
        from va import cli

        cli.main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _record(to: Path) -> None:
    """Note every file that is written whole, with a hash of it."""
    from campaign import looking
    from va import files

    real = files.replacing

    @contextlib.contextmanager
    def replacing(path: Path) -> Iterator[Path]:
        with real(path) as temporary:
            yield temporary
        with to.open("a") as file:
            file.write(json.dumps([str(path), looking.hash_of(path)]) + "\n")

    files.replacing = replacing


def _let_permissions_count() -> None:
    """Drop what makes root read and write everything, here and in whatever is started from here."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in _DROPPED:
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    mask = sum(1 << capability for capability in _DROPPED)
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    for place in (0, 1):  # effective, permitted
        data[place] &= ~mask
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def _jump(by_s: float) -> None:
    """Let every clock of the day jump; the monotonic one goes on, as the system's does."""
    real, true = time.time, datetime.datetime

    class Jumped(true):  # type: ignore[misc, valid-type]
        """A clock that was set."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return true.now(tz) + datetime.timedelta(seconds=by_s)

    time.time = lambda: real() + by_s
    for name, module in list(sys.modules.items()):
        if name.startswith("va.") and getattr(module, "datetime", None) is true:
            module.datetime = Jumped  # type: ignore[attr-defined]
