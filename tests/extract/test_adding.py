"""The example of docs/adding-an-encoder.md runs as it stands there."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from va.extract.config import ExtractConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-an-encoder.md"


def test_the_example_encodes_a_picture() -> None:
    found = re.search(r"<!-- example -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    module: dict[str, Any] = {}
    exec(found[1], module)
    encoder = module["build"](ExtractConfig(corpus=Path("c"), out=Path("o")))
    rgb = np.zeros((40, 40, 3), np.uint8)
    rgb[:10, :10, 0] = 255  # a red corner
    values = encoder.encode(torch.from_numpy(encoder.transform(rgb))[None])
    assert values.shape == (1, encoder.dim) == (1, 48)
    assert values.nonzero().tolist() == [[0, 0]]
    assert values[0, 0] == 1
    assert encoder.identity["preprocessing"] == {"resize": "4x4 RGB, area"}
