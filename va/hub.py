"""Trained heads shared through the Hugging Face hub: `va push` sends a run, `va.from_pretrained` fetches one.

A shared head is three files: the weights as safetensors, `run.json` without anything of the machine or the clips it
came from, and a model card. Nothing else is sent and nothing else is fetched, so nothing that arrives can execute.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from va import files, hub_card
from va.errors import VAError
from va.weights import offline

T = TypeVar("T")

FILES: Final = ("model.safetensors", "run.json", "README.md")
"""What a shared head consists of."""

_LARGEST: Final = {"model.safetensors": 4 << 30, "run.json": 4 << 20, "README.md": 1 << 20}
"""Bytes; a head of the paper has 6 MB, an ensemble of 25 has 150."""

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATH: Final = re.compile(r"""(?:^|[\s:='"(,])(?:/[^/\s]+/|~[\w-]*/|[A-Za-z]:[\\/]|\\\\|file:)""")
"""What an absolute path looks like inside a text."""

_KEPT: Final = (
    "schema",
    "created",
    "config",
    "identity",
    "shape",
    "members",
    "encoders",
    "demo_encoders",
    "region_texts",
    "prototypes",
    "epochs",
    "versions",
)
"""Parts of `run.json` that are shared as they are, but for paths in its config."""

_PLACES: Final = {"corpus": "corpus", "features": "features", "out": "runs", "device": "auto", "tensorboard": False}
"""What stands in a shared config for settings of the machine it was trained on."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What would be uploaded, by file name."""

    contents: dict[str, bytes]


def pack(run: Path, *, repo_id: str, license_name: str, metrics: Path | None, verified: bool) -> Packed:
    """Make the files of a shared head; asks no network.

    Args:
        run: A finished run, or an ensemble.
        repo_id: Where it will be, for the card's examples.
        license_name: License of the weights as the hub spells it, e.g. `mit`; empty when none is stated.
        metrics: A report's folder that `va evaluate` made of this run, or None.
        verified: The user states that the figures were verified on Aff-Wild2.

    Raises:
        VAError: Not a finished run, a path of this machine would be shared, or the report is of another run.
    """
    _check_repository(repo_id)
    info = files.read_json(
        run / "run.json", what="a finished run", hint="Give a run directory that 'va train' printed."
    )
    # Loading proves that weights and description belong together, before anybody downloads them.
    from va.train import checkpoint

    checkpoint.load_run(run)
    shared = shareable(info)
    _refuse_paths(shared)
    report = read_report(metrics, run=run.name) if metrics is not None else None
    card = hub_card.write(
        shared, counts=_counts(info), repo_id=repo_id, license_name=license_name, report=report, verified=verified
    )
    return Packed(
        contents={
            "model.safetensors": (run / "model.safetensors").read_bytes(),
            "run.json": (json.dumps(shared, indent=2) + "\n").encode(),
            "README.md": card.encode(),
        }
    )


def push(packed: Packed, *, repo_id: str, private: bool, revision: str, message: str, endpoint: str | None) -> str:
    """Upload a packed head as one commit; makes the repository and the branch where they are missing.

    Args:
        packed: From `pack`.
        repo_id: `owner/name`.
        private: Make a new repository private; an existing one stays as it is.
        revision: Branch, or empty for the repository's main one.
        message: Of the commit.
        endpoint: The hub's address; None for the one that the hub's client is set to.

    Returns:
        The commit's address.

    Raises:
        VAError: Not logged in, not allowed, no such place, or the hub is out of reach.
    """
    _check_repository(repo_id)
    if offline():
        raise VAError(f"{repo_id}: nothing is sent while HF_HUB_OFFLINE is set", "Unset it, or use --dry-run DIR.")
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=endpoint, library_name="va")

    def send() -> str:
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if revision:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in packed.contents.items()]
        commit = api.create_commit(repo_id, operations, commit_message=message, revision=revision or None)
        return str(commit.commit_url)

    return _asking(repo_id, send)


def fetch(
    repo_id: str,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    cache_dir: Path | None = None,
    endpoint: str | None = None,
) -> Path:
    """Download a shared head, or find it in the hub client's cache, which is all that `HF_HUB_OFFLINE=1` allows.

    Args:
        repo_id: `owner/name`.
        revision: Branch, tag or commit; None for the main branch. Name a commit to get the same weights for ever.
        local_files_only: Ask no network.
        cache_dir: Where to keep it; None for the hub client's own cache.
        endpoint: The hub's address; None for the one that the hub's client is set to.

    Returns:
        A run directory for `checkpoint.load_run`.

    Raises:
        VAError: No such repository, not a head, larger than a head can be, not allowed, or out of reach.
    """
    _check_repository(repo_id)
    from huggingface_hub import HfApi, snapshot_download

    local = local_files_only or offline()

    def download() -> Path:
        if not local:
            tree = HfApi(endpoint=endpoint, library_name="va").list_repo_tree(repo_id, revision=revision)
            _check_files(repo_id, {one.path: int(getattr(one, "size", 0)) for one in tree})
        return Path(
            snapshot_download(
                repo_id,
                revision=revision,
                local_files_only=local,
                cache_dir=cache_dir,
                allow_patterns=list(FILES),
                endpoint=endpoint,
                library_name="va",
            )
        )

    folder = _asking(repo_id, download)
    # Again on what lies here: a cache may have been filled by anybody, and a branch may have moved in between.
    _check_files(repo_id, {name: (folder / name).stat().st_size for name in FILES if (folder / name).is_file()})
    return folder


def shareable(info: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a `run.json` what others may see and need: no path, no device, no name of a clip.

    Args:
        info: `run.json`.

    Returns:
        What `checkpoint.load_run` reads. Lists of clips are empty, since names of recordings can name people.
    """
    found = {name: info[name] for name in _KEPT if name in info}
    found["config"] = {**info["config"], **_PLACES}
    found["corpus"] = {"name": info["corpus"]["name"], "path": "", "synthetic": info["corpus"]["synthetic"]}
    found["features"] = {kind: Path(path).name for kind, path in info["features"].items()}
    chosen = info["selection"]
    found["selection"] = {name: chosen[name] for name in ("split", "epoch", "ccc_mean")} | {"clips": []}
    found["train_clips"] = []
    return found


def read_report(folder: Path, *, run: str) -> dict[str, Any]:
    """Read a report's figures.

    Args:
        folder: Where `va evaluate --out` wrote it.
        run: The run's directory name.

    Raises:
        VAError: It has no figures, or those of another run.
    """
    hint = "Give the folder that 'va evaluate RUN --out DIR' wrote for this run."
    found = files.read_json(folder / "metrics.json", what="a report's figures", hint=hint)
    if found.get("run") != run:
        raise VAError(f"{folder}: reports on '{found.get('run')}', not on '{run}'", hint)
    try:
        score = found["rows"][0]["abaw"]
        wanted = [score[name][key] for name in hub_card.NAMES for key in ("value", "low", "high")]
        wanted += [score["num_clips"], score["num_frames"], score["coverage"]]
        complete = all(isinstance(value, int | float) for value in wanted if value is not None)
        complete &= all(isinstance(found[name], str) for name in ("corpus", "split"))
    except (KeyError, TypeError, IndexError):
        complete = False
    if not complete:
        raise VAError(f"{folder / 'metrics.json'}: is not a report's figures", hint)
    return found


def _counts(info: Mapping[str, Any]) -> dict[str, int]:
    return {"train": len(info["train_clips"]), "selection": len(info["selection"]["clips"])}


def _texts(value: object, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, where)


def _refuse_paths(shared: Mapping[str, Any]) -> None:
    """Check that no text of a shared `run.json` holds a path, e.g. an encoder that was named by its folder."""
    for where, value in _texts(shared, ""):
        if _PATH.search(value):
            raise VAError(
                f"run.json: {where} names a path of this machine ('{value}'), which would be made public",
                "Extract with the encoder's hub name (hf:owner/name) or import under another name, and train again.",
            )


def _check_repository(repo_id: str) -> None:
    if not _REPOSITORY.fullmatch(repo_id) or ".." in repo_id or "--" in repo_id:
        raise VAError(f"'{repo_id}' is not a repository of the hub", "Write it as owner/name.")


def _check_files(repo_id: str, sizes: Mapping[str, int]) -> None:
    lacking = [name for name in FILES[:2] if name not in sizes]
    if lacking:
        raise VAError(
            f"{repo_id}: holds no head of va ({' and '.join(lacking)} missing)",
            "Name a repository that 'va push' made; formats other than safetensors and JSON are never loaded.",
        )
    for name in FILES:
        if sizes.get(name, 0) > _LARGEST[name]:
            raise VAError(
                f"{repo_id}: {name} has {sizes[name]:,} bytes, more than the {_LARGEST[name]:,} a head may have",
                "Name a repository that 'va push' made.",
            )


def _asking(repo_id: str, ask: Callable[[], T]) -> T:
    """Ask the hub, and say in two lines what went wrong."""
    from huggingface_hub import errors

    try:
        return ask()
    except VAError:
        raise
    except errors.GatedRepoError:
        problem, hint = "is gated", "Ask for access on its page, then log in with 'hf auth login'."
    except errors.RevisionNotFoundError:
        problem, hint = "has no such revision", "Name a branch, tag or commit that its page lists."
    except errors.LocalEntryNotFoundError:
        problem = "is not in the local cache, whole, and the hub was not or could not be asked"
        hint = "Check the network; without HF_HUB_OFFLINE and local_files_only it is downloaded once and then kept."
    except errors.HfHubHTTPError as error:
        problem, hint = _explain(error, errors.RepositoryNotFoundError)
    except (errors.OfflineModeIsEnabled, errors.LocalTokenNotFoundError) as error:
        problem, hint = (
            f"cannot be asked for ({type(error).__name__})",
            "Log in with 'hf auth login', or unset HF_HUB_OFFLINE.",
        )
    except ValueError as error:
        problem, hint = f"was refused ({_line(error)})", "Correct what it names and push again."
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined] # of the client's HTTP library
        problem = f"cannot be reached ({type(error).__name__})"
        hint = "Check the network and HF_ENDPOINT, and try again; nothing was left half done."
    raise VAError(f"{repo_id}: {problem}", hint)


def _explain(error: Any, not_found: type[Exception]) -> tuple[str, str]:
    status = error.response.status_code if error.response is not None else 0
    if status == 401 and not isinstance(error, not_found):
        return "the hub does not know who you are (401)", "Log in with 'hf auth login', or set HF_TOKEN."
    if isinstance(error, not_found):
        return (
            f"there is no such repository, or you may not see it ({status})",
            "Check its name; for a private one log in with 'hf auth login', or set HF_TOKEN.",
        )
    if status == 403:
        return "your token may not do this (403)", "Use a token with write access to it: 'hf auth login'."
    return f"the hub answered {status} ({_line(error)})", "Try again later; nothing was left half done."


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
