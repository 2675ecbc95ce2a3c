"""What identities say of the files that encoders and detectors are loaded from. A leaf."""

from pathlib import Path

from va import files
from va.errors import VAError


def digest_of(*weights: Path) -> str:
    """Hash files whose bytes features depend on.

    Args:
        weights: Files that are there.

    Returns:
        `files.hash_file` of each, joined by `+`.

    Raises:
        VAError: One cannot be read.
    """
    found = []
    for file in weights:
        try:
            found.append(files.hash_file(file))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise VAError(f"{file}: cannot be read ({reason})", "Check its permissions, or bring it again.") from None
    return "+".join(found)
