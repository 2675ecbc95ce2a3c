"""Trained heads shared through the Hugging Face hub: `va push` sends a run, `va.from_pretrained` fetches one.

A shared head is three files: the weights as safetensors, `run.json` without anything of the machine or the clips it
came from, and a model card. Encoders that were fine-tuned go with it, as safetensors and JSON. Nothing else is sent,
and `fetch` fetches nothing else, so nothing that arrives can execute. The first prediction on a video fetches more
where the head's encoders are models of a hub: those that its `run.json` names, without code (`va/extract/hf.py`), and
refused unless they have the identity that stands there.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from va import files
from va.errors import VAError
from va.hub_pack import FILES, TUNED, Packed, check_repository
from va.weights import offline

T = TypeVar("T")

_TIMEOUT_S: Final = 10
_LARGEST: Final = {"model.safetensors": 4 << 30, "run.json": 4 << 20, "README.md": 1 << 20}
"""Bytes; a head of the paper has 6 MB, an ensemble of 25 has 150."""
_LARGEST_ENCODER: Final = {".safetensors": 16 << 30, ".json": 4 << 20}
"""Bytes of the files of fine-tuned encoders, by suffix; the paper's have 600 and 350 MB."""


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
    check_repository(repo_id)
    if offline():
        raise VAError(f"{repo_id}: nothing is sent while HF_HUB_OFFLINE is set", "Unset it, or use --dry-run DIR.")
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=endpoint, library_name="va")

    def send() -> str:
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if revision:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        added: dict[str, bytes | Path] = {**packed.contents, **packed.encoders}
        operations = [CommitOperationAdd(name, content) for name, content in added.items()]
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

    Where the hub is out of reach, a copy that was fetched before is taken, with a warning.

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
    check_repository(repo_id)
    from huggingface_hub import snapshot_download

    def download() -> Path:
        asked = not (local_files_only or offline())
        commit = _checked_commit(repo_id, revision=revision, endpoint=endpoint) if asked else None
        # The commit that was checked and no other: a branch may move in between.
        found = snapshot_download(
            repo_id,
            revision=commit or revision,
            local_files_only=commit is None,
            cache_dir=cache_dir,
            allow_patterns=[*FILES, *TUNED],
            endpoint=endpoint,
            library_name="va",
        )
        if commit is not None:
            _remember(Path(found), revision=revision, commit=commit)
        elif asked:
            warnings.warn(f"{repo_id}: the hub is out of reach; taking the copy that was fetched before", stacklevel=4)
        return Path(found)

    folder = _asking(repo_id, download)
    # Again on what lies here: a cache may have been filled by anybody.
    there = [name for name in (*FILES, *TUNED) if (folder / name).is_file()]
    _check_files(repo_id, {name: (folder / name).stat().st_size for name in there})
    return folder


def _checked_commit(repo_id: str, *, revision: str | None, endpoint: str | None) -> str | None:
    """Give the commit that was looked at, or None where nobody answers."""
    from huggingface_hub import HfApi, errors

    api = HfApi(endpoint=endpoint, library_name="va")
    try:
        info = api.model_info(repo_id, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
    except errors.HfHubHTTPError:
        raise
    except errors.HTTPError:  # type: ignore[attr-defined] # of the client's HTTP library
        return None
    _check_files(repo_id, {one.rfilename: one.size or 0 for one in info.siblings or ()})
    return str(info.sha)


def _remember(folder: Path, *, revision: str | None, commit: str) -> None:
    """Note in the hub client's cache which commit a branch was, so that it is found by that name without a network."""
    root = folder.parents[1].resolve() / "refs"
    named = (root / (revision or "main")).resolve()
    if revision == commit or not named.is_relative_to(root):
        return
    # Only where it changes: a cache may be read-only, and whole.
    if not (named.is_file() and named.read_text(encoding="utf-8") == commit):
        files.write_text(named, commit)


def _check_files(repo_id: str, sizes: Mapping[str, int]) -> None:
    lacking = [name for name in FILES[:2] if name not in sizes]
    if lacking:
        raise VAError(
            f"{repo_id}: holds no head of va ({' and '.join(lacking)} missing)",
            "Name a repository that 'va push' made; formats other than safetensors and JSON are never loaded.",
        )
    for name, most in (_LARGEST | {name: _LARGEST_ENCODER[Path(name).suffix] for name in TUNED}).items():
        if sizes.get(name, 0) > most:
            raise VAError(
                f"{repo_id}: {name} has {sizes[name]:,} bytes, more than the {most:,} a head may have",
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
