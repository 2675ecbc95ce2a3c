"""`va weights get` on a machine with a network, `va weights path` anywhere: where encoders' weights are.

Copy the files, or the hub's cache folder, to a machine without a network; `HF_HUB_OFFLINE=1` then asks nobody.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from va import weights
from va.data.tuned import KINDS, places_of
from va.errors import VAError
from va.extract.config import BASELINES, HUGGING_FACE, OPEN_CLIP, PRESETS, RUN

PAPER: Final = PRESETS["paper"]
KNOWN: Final = tuple(dict.fromkeys(name for names in PRESETS.values() for name in names))
"""Encoders of all presets."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """Where one encoder's weights are.

    Args:
        encoder: Its name.
        path: The file or folder, or where the hub's client would put it.
        there: Whether it is there, whole.
    """

    encoder: str
    path: Path
    there: bool


def get(names: Sequence[str], *, progress: Callable[[int, int, str], None]) -> list[Located]:
    """Download what is not there yet.

    Args:
        names: Encoder names.
        progress: Called with (encoders done, encoders in all, name).

    Raises:
        VAError: There is no such encoder, or its weights cannot be reached; those before it are kept.
    """
    for name in names:
        locate(name)  # a name that is wrong shows before the first of several long downloads
    for done, name in enumerate(names):
        progress(done, len(names), name)
        if name.startswith(RUN):
            continue
        if name.startswith(HUGGING_FACE):
            if not locate(name)[0].there:
                weights.find_folder(name.removeprefix(HUGGING_FACE), encoder=name)
        else:
            for file in _hub_files(name):
                weights.find(file, local=None)
    progress(len(names), len(names), "")
    return [place for name in names for place in locate(name)]


def locate(name: str) -> list[Located]:
    """Say where an encoder's files are or would be; asks no network. Encoders without weights have none.

    Raises:
        VAError: There is no such encoder.
    """
    if name in ("tiny-clip", "tiny-ast"):
        packed = weights.DEMO / name / "model.safetensors"
        return [Located(encoder=name, path=packed, there=packed.is_file())]
    if name.startswith(RUN):
        return _of_run(name)
    if name.startswith(HUGGING_FACE):
        wanted = name.removeprefix(HUGGING_FACE)
        local = Path(wanted).expanduser()
        if wanted and local.is_dir():
            return [Located(encoder=name, path=local, there=True)]
        weights.check_repository(wanted, encoder=name)
        folder = weights.cached_folder(wanted)
        return [Located(encoder=name, path=folder or weights.cache_of(wanted), there=folder is not None)]
    found = []
    for file in _hub_files(name):
        path = weights.cached(file)
        would_be = weights.cache_of(file.repository) / file.filename
        found.append(Located(encoder=name, path=path or would_be, there=path is not None))
    return found


def require(places: Sequence[Located]) -> None:
    """Check that everything is there.

    Raises:
        VAError: Something is not; names the encoders.
    """
    lacking = list(dict.fromkeys(place.encoder for place in places if not place.there))
    if lacking:
        raise VAError(
            f"weights of {', '.join(lacking)} are not there",
            f"On a machine with a network: va weights get {' '.join(lacking)}",
        )


def _of_run(name: str) -> list[Located]:
    from va.extract import tuned  # loads torch, and only such a name needs it

    directory = tuned.directory_of(name)
    info = tuned.read(directory)
    found = []
    for kind in KINDS:
        identity = info["encoders"][kind]
        if "tuned" not in identity:
            found += locate(str(identity["encoder"]))
            continue
        places = [Path(place) for place in places_of(directory, info, kind=kind, given=None) if place is not None]
        there = [place for place in places if place.is_dir()]
        found.append(Located(encoder=str(identity["encoder"]), path=(there or places)[0], there=bool(there)))
    return found


def _hub_files(name: str) -> tuple[weights.HubFile, ...]:
    if name.startswith(OPEN_CLIP):
        from va.extract import openclip  # takes seconds to import, and only this name needs it

        return (openclip.hub_file(name),)
    if name in (*BASELINES, "logmel", "tiny-clip", "tiny-ast"):
        return ()  # without weights, or with weights that ship in the package
    for file in weights.HUB_FILES:
        if file.encoder == name:
            return weights.parts(file)
    known = ", ".join(file.encoder for file in weights.HUB_FILES)
    raise VAError(f"there is no encoder '{name}'", f"Choose from {known}, open_clip:MODEL/TAG, hf:MODEL.")
