"""Files of weights that cannot be read are said to be, in two lines, by every encoder and detector that has some."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from va import files, weights
from va.errors import VAError
from va.extract import detect, encoders
from va.extract.config import ExtractConfig
from va.extract.digests import digest_of


def build(name: str) -> object:
    config = ExtractConfig(corpus=Path("corpus"), out=Path("features"), encoders=(name,))
    return encoders.build(name, config=config, device=torch.device("cpu"))


BUILDERS: dict[str, Callable[[], object]] = {
    "tiny-clip": lambda: build("tiny-clip"),
    "tiny-ast": lambda: build("tiny-ast"),
    "centerface": lambda: detect.load_detector(None),
    "identity of faces": lambda: detect.detector_identity(None),
}


@pytest.mark.parametrize("what", BUILDERS)
def test_weights_that_cannot_be_read(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    BUILDERS[what]()  # it can be built where its file is readable
    monkeypatch.setattr(files, "hash_file", refuse)
    with pytest.raises(VAError, match=r"(safetensors|onnx): cannot be read \(Permission denied\)") as caught:
        BUILDERS[what]()
    assert caught.value.hint == "Check its permissions, or bring it again."


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permissions(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    file.chmod(0)
    with pytest.raises(VAError, match="cannot be read"):
        digest_of(file)


def test_digests_of_several_files_are_joined() -> None:
    tiny = [weights.DEMO / name / "model.safetensors" for name in ("tiny-clip", "tiny-ast")]
    assert digest_of(*tiny) == f"{files.hash_file(tiny[0])}+{files.hash_file(tiny[1])}"
    assert digest_of(tiny[0]) == files.hash_file(tiny[0])
