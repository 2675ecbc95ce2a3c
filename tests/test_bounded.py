"""What is no such file is refused with two lines."""

from pathlib import Path

import pytest

from va import bounded
from va.errors import VAError


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b'{"a": "\xff"}', b"3"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(VAError, match=r"a.json: is not a manifest") as caught:
        bounded.read_json(tmp_path / "a.json", what="a manifest", hint="Make it again.")
    assert caught.value.hint == "Make it again."


def test_missing_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VAError, match=r"a.json: cannot be read as a manifest \(No such file"):
        bounded.read_json(tmp_path / "a.json", what="a manifest", hint="Make it.")
