"""Nothing is unpickled from a file: the whole chain under watch, in every process that it starts.

The demo runs under the same watch in `test_end_to_end.py`.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from watched import WATCH, environment, lines


def run(log: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python under watch; what it and its children unpickle goes into `log`."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment(log), capture_output=True, text=True, timeout=280)


@pytest.mark.slow
def test_the_whole_chain_unpickles_nothing_but_what_multiprocessing_sends_itself(tmp_path: Path) -> None:
    """Encoders' shipped weights, features, runs, ensembles, sweeps, imports, shared heads, reports and videos."""
    done = run(tmp_path / "log", WATCH / "chain.py", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("done\n")
    seen = lines(tmp_path / "log")
    assert [line for line in seen if not line["allowed"]] == []
    loads = Counter(
        (Path(line["file"]).name, line["function"]) for line in seen if not line["what"].startswith("find_class")
    )
    # New processes learn what to do: those that draw (with their tracker of semaphores' children) and the readers.
    # The pool that draws clips hands each to a process and gets an answer; readers answer without pickle.
    drawn, readers = 8, 2 + 1 + 1  # of extract, of `va predict`, of `predict`
    assert loads[("spawn.py", "_main")] >= 2 * (2 + readers)
    assert loads[("queues.py", "get")] >= drawn and loads[("connection.py", "recv")] == drawn
    assert set(loads) == {("spawn.py", "_main"), ("queues.py", "get"), ("connection.py", "recv")}
    inside = {line["pid"] for line in seen}
    assert len(inside) >= readers, "processes that were started are watched too"


ATTACKS = {
    "pickle without a global": "import pickle; pickle.load(open(file, 'rb'))",
    "pickle.loads": "import pickle; pickle.loads(open(file, 'rb').read())",
    "an Unpickler": "import pickle; pickle.Unpickler(open(file, 'rb')).load()",
    "a class of its own": "import pickle\nclass Mine(pickle.Unpickler): pass\nMine(open(file, 'rb')).load()",
    "Python's own in Python": "import pickle; pickle._Unpickler(open(other, 'rb')).load()",
    "the C one": "import _pickle; _pickle.load(open(other, 'rb'))",
    "numpy": "import numpy; numpy.load(array, allow_pickle=True)",
    "torch": "import torch; torch.load(weights, weights_only=True)",
    "torch, all": "import torch; torch.load(weights, weights_only=False)",
    "a connection that is a file": (
        "import os; from multiprocessing.connection import Connection\n"
        "Connection(os.open(sent, os.O_RDONLY), writable=False).recv()"
    ),
}


@pytest.fixture(scope="module")
def loot(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Harmless files of every kind that could execute."""
    import fractions
    import pickle

    import numpy as np
    import torch

    folder = tmp_path_factory.mktemp("loot")
    content = pickle.dumps([1, 2])
    found = {name: folder / name for name in ("file", "sent", "other", "array.npy", "weights")}
    found["file"].write_bytes(content)
    found["sent"].write_bytes(len(content).to_bytes(4, "big") + content)
    found["other"].write_bytes(pickle.dumps(fractions.Fraction(1, 2)))
    np.save(found["array.npy"], np.array([{}], dtype=object), allow_pickle=True)
    torch.save({"a": torch.ones(2)}, found["weights"])
    return found


def test_every_way_to_unpickle_a_file_is_seen(tmp_path: Path, loot: dict[str, Path]) -> None:
    """The watch itself: without this, the chain would pass under a watch that sees nothing."""
    head = "".join(f"{path.stem} = {str(path)!r}\n" for path in loot.values())
    script = head + f"import sys\nATTACKS = {ATTACKS!r}\nmissed = []\n"
    script += (
        "for name, code in ATTACKS.items():\n"
        "    try:\n        exec(code)\n"
        "    except Exception as error:\n        missed.append(f'{name}: {error!r}')\n"
        "    except BaseException as error:\n"
        "        if type(error).__name__ != 'PickleLoadedError': raise\n"
        "    else:\n        missed.append(name)\n"
        "print(missed)\n"
    )
    done = run(tmp_path / "log", "-c", script)
    assert done.stdout == "[]\n", done.stderr
    refused = [line for line in lines(tmp_path / "log") if not line["allowed"]]
    assert len(refused) >= len(ATTACKS)


def test_a_child_is_watched_as_its_parent_is(tmp_path: Path, loot: dict[str, Path]) -> None:
    code = "import multiprocessing as m\n"
    code += f"def work():\n    import numpy; numpy.load({str(loot['array.npy'])!r}, allow_pickle=True)\n"
    code += "if __name__ == '__main__':\n    p = m.get_context('spawn').Process(target=work)\n"
    code += "    p.start(); p.join(); raise SystemExit(p.exitcode)\n"
    (tmp_path / "script.py").write_text(code)
    done = run(tmp_path / "log", tmp_path / "script.py")
    assert done.returncode == 1 and "PickleLoadedError" in done.stderr
    refused = [line["what"] for line in lines(tmp_path / "log") if not line["allowed"]]
    assert refused == ["numpy.load"]
    assert any(line["function"] == "_main" and line["allowed"] for line in lines(tmp_path / "log"))
