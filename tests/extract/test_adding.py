"""The example of docs/adding-an-encoder.md runs as it stands there."""

import importlib
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from va.extract.config import ExtractConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-an-encoder.md"


def test_the_example_encodes_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"<!-- example -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    (tmp_path / "colours_of_the_docs.py").write_text(found[1])
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("colours_of_the_docs")
    encoder = module.build(ExtractConfig(corpus=Path("c"), out=Path("o")))
    rgb = np.zeros((40, 40, 3), np.uint8)
    rgb[:10, :10, 0] = 255  # a red corner
    transform = pickle.loads(pickle.dumps(encoder.transform))  # noqa: S301 -- as it reaches a reader process
    made = transform(rgb)
    assert made.dtype == np.uint8
    values = encoder.encode(torch.from_numpy(made)[None])
    assert values.shape == (1, encoder.dim) == (1, 48)
    assert values.dtype == torch.float32
    assert values.nonzero().tolist() == [[0, 0]]
    assert values[0, 0] == 1
    assert encoder.identity["preprocessing"] == {"resize": "4x4 RGB, area"}
