"""Runs `va` in the test's own process, where the process is not what is tested: starting one costs two seconds."""

import sys
from pathlib import Path

import pytest

from va import cli


def va(*arguments: str | Path) -> int:
    """Run a command as from a command line; gives its exit code, and leaves its output to `capsys`."""
    with pytest.MonkeyPatch.context() as during, pytest.raises(SystemExit) as ended:
        during.setattr(sys, "argv", ["va", *map(str, arguments)])
        cli.main()
    return int(ended.value.code or 0)
