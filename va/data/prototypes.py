"""Text prototypes: one vector per region, kept beside a CLIP encoder's features and outside their identity.

New texts therefore need no new extraction. Stored as JSON, because they are small and people want to read them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from va import bounded, files
from va.errors import VAError

NAME: Final = "prototypes.json"
"""The file's name in a feature store's folder."""


@dataclass(frozen=True, kw_only=True)
class Prototypes:
    """Region texts and their embeddings (paper section 3.3; F9).

    Args:
        texts: One per region, in region order (`docs/method.md`).
        templates: Sentences that the texts were put into.
        values: float32 [regions, dim].
    """

    texts: tuple[str, ...]
    templates: tuple[str, ...]
    values: NDArray[np.float32]


def write(directory: Path, prototypes: Prototypes) -> None:
    """Write prototypes into a feature store's folder, whole or not at all."""
    files.write_json(
        directory / NAME,
        {
            "texts": list(prototypes.texts),
            "templates": list(prototypes.templates),
            "values": prototypes.values.tolist(),
        },
    )


def read(directory: Path) -> Prototypes:
    """Read the prototypes of a feature store.

    Raises:
        VAError: There are none, or they are malformed; only CLIP encoders have prototypes.
    """
    hint = "Extract with a CLIP encoder: prototypes are written beside its features."
    data = bounded.read_json(directory / NAME, what="text prototypes", hint=hint)
    try:
        values = np.array(data["values"], dtype=np.float32)
        found = Prototypes(texts=tuple(data["texts"]), templates=tuple(data["templates"]), values=values)
    except (KeyError, TypeError, ValueError) as error:
        raise VAError(f"{directory / NAME}: is malformed ({error!r})", hint) from None
    if values.ndim != 2 or len(values) != len(found.texts) or not np.isfinite(values).all():
        raise VAError(f"{directory / NAME}: has {values.shape} values for {len(found.texts)} texts", hint)
    return found
