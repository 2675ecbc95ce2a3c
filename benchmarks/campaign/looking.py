"""What can be read below a folder, as hashes: of values and of files, without what differs between equal runs."""

import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

_VARYING: Final = ("created", "seconds", "trained_together", "path", "elapsed_s", "resume")
_TIME: Final = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00|Z| UTC)?|\d+ s in a stack of \d+")
VALUE: Final = "clip "
"""Marks values in names."""

STATES: Final = {"previous.safetensors": "state.safetensors"}
"""Files that are renamed ones."""


def readable(root: Path) -> dict[str, str]:
    """Hash every value of every feature store below a folder, and every other file that a reader would open.

    Values are named `folder/name of clip`. What cannot be trusted has the hash "damaged".
    """
    found: dict[str, str] = {}
    stores = [file.parent for file in root.rglob("identity.json") if (file.parent / "shards").is_dir()]
    stores += [file.parent for file in root.rglob("identity.json") if is_store(file.parent)]
    for directory in set(stores):
        found |= {f"{directory.relative_to(root)}/{VALUE}{name}": value for name, value in _values(directory).items()}
    for file in sorted(root.rglob("*")):
        inside = any(store in file.parents for store in stores)
        # A clip's record of failure is not work.
        if not file.name.startswith(".") and file.parent.name != "failures" and not inside and file.is_file():
            found[str(file.relative_to(root))] = hash_of(file)
    return found


def values(found: dict[str, str]) -> int:
    """Count the values of clips in what is readable."""
    return sum(Path(name).name.startswith(VALUE) for name in found)


def is_store(directory: Path) -> bool:
    """Say whether a folder is a feature store that opens."""
    from va.data.features import FeatureStore
    from va.errors import VAError

    try:
        FeatureStore(directory)
    except VAError:
        return False
    return True


def hash_of(file: Path) -> str:
    """Hash a file without the times in it; what a reader would refuse is "damaged"."""
    content = file.read_bytes()
    if file.suffix == ".json":
        try:
            content = json.dumps(_lasting(json.loads(content)), sort_keys=True).encode()
        except ValueError:
            return "damaged"
    elif file.suffix == ".html":
        content = _TIME.sub(b"", content)
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _values(directory: Path) -> dict[str, str]:
    from va.data.features import FeatureStore
    from va.errors import VAError

    found: dict[str, str] = {}
    with contextlib.suppress(VAError):
        store = FeatureStore(directory)
        for name in store.clip_ids():
            features = store.read(name)
            arrays = (features.values, features.time_s, features.valid)
            found[name] = hashlib.blake2b(b"".join(map(bytes, arrays)), digest_size=12).hexdigest()
    return found


def _lasting(data: Any) -> Any:
    """Leave out times and absolute paths."""
    if isinstance(data, dict):
        return {key: _lasting(value) for key, value in data.items() if key not in _VARYING}
    if isinstance(data, list):
        return [_lasting(value) for value in data]
    return "" if isinstance(data, str) and data.startswith("/") else data
