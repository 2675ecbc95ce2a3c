"""Where encoder weights are found: a file the user names, the hub's cache, the hub. Only safetensors.

`HF_HUB_OFFLINE=1` is respected: nothing is then asked of the network.
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from va import bounded
from va.errors import VAError

DEMO: Final = Path(__file__).parent / "extract" / "demo"
"""Weights of the demo encoders, which ship in the package."""


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file in a model hub's repository.

    Args:
        encoder: The encoder it belongs to.
        repository: Repository id.
        filename: File in it; always safetensors or JSON.
        option: The option that points to a local copy.
    """

    encoder: str
    repository: str
    filename: str
    option: str


CLIP: Final = HubFile(
    encoder="clip-vit-b-16",
    repository="timm/vit_base_patch16_clip_224.openai",
    filename="open_clip_model.safetensors",
    option="--clip-weights",
)
"""OpenAI's ViT-B/16 (F1, R7) as open_clip publishes it."""

CLIP_32: Final = HubFile(
    encoder="clip-vit-b-32",
    repository="timm/vit_base_patch32_clip_224.openai",
    filename="open_clip_model.safetensors",
    option="--clip-weights",
)
"""OpenAI's ViT-B/32 (F15, table 1) as open_clip publishes it."""

AST: Final = HubFile(
    encoder="ast",
    repository="MIT/ast-finetuned-audioset-10-10-0.4593",
    filename="model.safetensors",
    option="--ast-weights",
)
"""The AudioSet checkpoint (F2, R7); its config.json is needed beside it."""

HUB_FILES: Final = (CLIP, CLIP_32, AST)
_TIMEOUT_S: Final = 10
_INDEX: Final = "model.safetensors.index.json"
_CHECKPOINT: Final = ("config.json", "preprocessor_config.json", "model.safetensors", "model-*.safetensors", _INDEX)
"""Files of a transformers checkpoint, the only ones that are fetched."""


def cached(file: HubFile) -> Path | None:
    """Give the file's path in the local hub cache, or None; asks no network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(file.repository, file.filename)
    return Path(found) if isinstance(found, str) else None


def find(file: HubFile, *, local: Path | None) -> Path:
    """Find a weight file: the user's own, then the hub's cache, then the hub.

    Args:
        file: Which file.
        local: What the user named with `file.option`, or None. A folder stands for the file of that name in it.

    Raises:
        VAError: The local file is missing or not safetensors, or the hub is out of reach; says which file to bring.
    """
    if local is not None:
        path = local / file.filename if local.is_dir() else local
        if path.suffix != ".safetensors":
            raise VAError(
                f"{file.option}: {path} is not a .safetensors file",
                f"Bring {file.filename} of {file.repository}; other formats can execute code when loaded.",
            )
        if not path.is_file():
            raise VAError(f"{file.option}: {path} does not exist", f"Bring {file.filename} of {file.repository}.")
        return path
    return cached(file) or _download(file)


def cached_folder(repository: str) -> Path | None:
    """Give the folder of a whole checkpoint in the local hub cache, or None; asks no network."""
    from huggingface_hub import try_to_load_from_cache

    def there(name: str) -> Path | None:
        found = try_to_load_from_cache(repository, name)
        return Path(found) if isinstance(found, str) else None

    config, index = there("config.json"), there(_INDEX)
    if config is None or there("preprocessor_config.json") is None:
        return None
    shards = ["model.safetensors"]
    if index is not None:
        found = bounded.read_json(index, what="an index of weights", hint="Fetch the checkpoint again.")
        parts = found.get("weight_map")
        shards = [str(part) for part in parts.values()] if isinstance(parts, dict) else shards
    return config.parent if all(there(shard) for shard in shards) else None


def find_folder(repository: str, *, encoder: str) -> Path:
    """Find a checkpoint's folder: the hub's cache, then the hub.

    Args:
        repository: Repository id.
        encoder: Encoder name, for the error.

    Raises:
        VAError: It is neither cached nor reachable, or has no safetensors weights.
    """
    check_repository(repository, encoder=encoder)
    found = cached_folder(repository)
    if found is not None:
        return found
    from huggingface_hub import get_session, hf_hub_url, snapshot_download

    reason = "HF_HUB_OFFLINE is set"
    if not offline():
        try:
            get_session().head(hf_hub_url(repository, "config.json"), timeout=_TIMEOUT_S)
            folder = Path(snapshot_download(repository, allow_patterns=list(_CHECKPOINT)))
        except Exception as error:  # as in _download
            reason = f"hub out of reach: {type(error).__name__}"
        else:
            if any(folder.glob("*.safetensors")):
                return folder
            reason = "the repository has no safetensors file"
    raise VAError(
        f"weights of '{encoder}' are not cached and not reachable ({reason})",
        f"Bring {', '.join(_CHECKPOINT[:3])} of {repository} into a folder and use hf:FOLDER.",
    )


def check_repository(repository: str, *, encoder: str) -> None:
    """Check that a repository id is one by its form.

    Raises:
        VAError: It is not; it may be a folder that does not exist.
    """
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository) or ".." in repository:
        raise VAError(f"'{encoder}': no such folder, and no hub id either", "Give a folder that exists, or owner/name.")


def cache_of(repository: str) -> Path:
    """Give the folder in which the hub's client keeps a repository, whether it is there or not."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def parts(file: HubFile) -> tuple[HubFile, ...]:
    """List a weight file and what is needed beside it: transformers wants the AST's config.json."""
    return (file, replace(file, filename="config.json")) if file == AST else (file,)


def offline() -> bool:
    """Say whether the user forbids asking the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _download(file: HubFile) -> Path:
    from huggingface_hub import get_session, hf_hub_download, hf_hub_url

    reason = "HF_HUB_OFFLINE is set"
    if not offline():
        try:
            # One quick question first: the download itself would retry for half a minute without a network.
            get_session().head(hf_hub_url(file.repository, file.filename), timeout=_TIMEOUT_S)
            return Path(hf_hub_download(file.repository, file.filename))
        except Exception as error:  # the hub's client raises network errors of several libraries
            reason = f"hub out of reach: {type(error).__name__}"
    raise VAError(
        f"weights of '{file.encoder}' are not cached and not reachable ({reason})",
        f"Bring {file.filename} of {file.repository} and pass {file.option} PATH, or use the demo encoders "
        "(--preset tiny; in 'va predict' --encoder tiny-clip).",
    )
