"""The frozen text tower beside a CLIP encoder's features, for learned context before the region texts.

`va prompts FEATURES --tower` writes it, `va train --context M` reads it: so stage two needs no encoder. One safetensors
file whose header holds the description as JSON: whole or absent, and nothing in it can execute. It holds the
embeddings of the texts' own tokens, not the vocabulary's.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from va import bounded, files
from va.errors import VAError

NAME: Final = "text_tower.safetensors"
"""The file's name in a feature store's folder."""
SCHEMA: Final = 1


@dataclass(frozen=True, kw_only=True)
class TextTower:
    """What the file says about its tensors, which `load` gives.

    Args:
        encoder: The encoder's name.
        weights: Hash of its weights, as in `identity.json`.
        texts: The regions' texts, in region order.
        tokens: Numbers of each text's tokens in the vocabulary, the end token last.
        heads: Attention heads.
        activation: "gelu" or "quick_gelu".
        eps: Of the layer norms.
        blake2b: BLAKE2b-128 of the tensors (`checksum`).
    """

    encoder: str
    weights: str
    texts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    heads: int
    activation: str
    eps: float
    blake2b: str

    @property
    def longest(self) -> int:
        """Tokens of the longest text, its end included."""
        return max(map(len, self.tokens))


class TowerContent(NamedTuple):
    """A tower as it is written: its description, and its tensors on the CPU (`va.model.text.RegionTexts`)."""

    about: TextTower
    tensors: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TowerFile:
    """A tower on the disk, its tensors not read yet.

    Args:
        path: The file.
        about: Its description.
        places: Tokens that the tower reads at most.
        width: Its width, which is that of a context vector.
        dim: Length of its embeddings.
        layers: Its blocks.
    """

    path: Path
    about: TextTower
    places: int
    width: int
    dim: int
    layers: int

    def load(self) -> dict[str, Tensor]:
        """Read the tensors, on the CPU, as `va.model.text.from_tensors` takes them.

        Raises:
            VAError: They are not those that were written.
        """
        try:
            tensors = load_file(self.path)
        except (OSError, SafetensorError) as error:
            raise _damaged(self.path, str(error)) from None
        if checksum(tensors) != self.about.blake2b:
            raise _damaged(self.path, "its checksum is another")
        return tensors


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Hash tensors on the CPU, their names, dtypes and shapes: 32 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        array = tensor.contiguous().numpy()
        state.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        state.update(array.data if array.size else b"")
    return state.hexdigest()


def write(directory: Path, content: TowerContent) -> None:
    """Write a tower into a feature store's folder, whole or not at all.

    Raises:
        VAError: It cannot be written.
    """
    text = json.dumps({"schema": SCHEMA, **asdict(content.about)}, ensure_ascii=False, allow_nan=False)
    tensors = {name: tensor.contiguous() for name, tensor in content.tensors.items()}
    with files.replacing(directory / NAME) as temporary:
        # The library's own writer makes files that only their owner can read; features are shared.
        temporary.write_bytes(save(tensors, metadata={"tower": text}))


def find(directory: Path, *, weights: Any) -> TowerFile:
    """Open the tower of a feature store, without its tensors.

    Args:
        directory: The store's folder.
        weights: Hash of the weights that made the features.

    Raises:
        VAError: There is none, it is damaged or of another version, or belongs to other weights.
    """
    path = directory / NAME
    if not path.is_file():
        raise VAError(f"{directory}: has no text tower, which --context trains through", make_again(path))
    try:
        with safe_open(path, framework="pt") as opened:
            values: dict[str, Any] = bounded.parse_json((opened.metadata() or {})["tower"])
            shapes = {name: opened.get_slice(name).get_shape() for name in ("words", "positions", "projection")}
            layers = sum(name.endswith(".up.weight") for name in opened.keys())  # noqa: SIM118 - not a dict
        if values.pop("schema") != SCHEMA:
            raise ValueError("another version wrote it")
        about = _checked(values)
        (places, width), (_, dim) = shapes["positions"], shapes["projection"]
        if shapes["words"] != [len(about.texts), about.longest, width]:
            raise ValueError(f"words of shape {shapes['words']} for {len(about.texts)} texts")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, str(error)) from None
    if about.weights != weights:
        raise VAError(f"{path}: is of weights {about.weights}, the features were made with {weights}", make_again(path))
    return TowerFile(path=path, about=about, places=places, width=width, dim=dim, layers=layers)


def _checked(values: dict[str, Any]) -> TextTower:
    lists = {
        "texts": tuple(str(text) for text in values["texts"]),
        "tokens": tuple(tuple(int(token) for token in text) for text in values["tokens"]),
    }
    tower = TextTower(**{**values, **lists})
    if not tower.texts or len(tower.texts) != len(tower.tokens) or not all(tower.tokens):
        raise ValueError(f"{len(tower.texts)} texts with tokens of {len(tower.tokens)}")
    if not (isinstance(tower.heads, int) and isinstance(tower.eps, float) and isinstance(tower.activation, str)):
        raise TypeError("a setting is of the wrong type")
    return tower


def _damaged(path: Path, reason: str) -> VAError:
    lines = reason.splitlines() or ["no reason given"]
    return VAError(f"{path}: cannot be read as a text tower ({lines[0]})", make_again(path))


def make_again(path: Path) -> str:
    """Say how a tower is made."""
    store = path.parent
    return f"Run 'va prompts {store.parent} --tower --encoder {store.name}'."
