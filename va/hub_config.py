"""Settings of `va push`. Standard library only, so that `va --help` stays quick."""

from dataclasses import dataclass
from pathlib import Path

from va.settings import argument, require


@dataclass(frozen=True, kw_only=True)
class PushConfig:
    """Which run to share, where, and what to say of it."""

    run: Path = argument()
    """Finished run directory, or an ensemble's."""

    repo_id: str = argument()
    """Repository of the hub, as owner/name; made where it is missing."""

    private: bool = False
    """Make a new repository private; an existing one stays as it is."""

    revision: str = ""
    """Branch; made where it is missing. By default the repository's main branch."""

    message: str = "A head trained with va"
    """Message of the commit."""

    license: str = ""
    """License of the weights as the hub spells it, e.g. mit or cc-by-nc-4.0; without it the card states none."""

    metrics: Path | None = None
    """Folder of a report that 'va evaluate' made of this run; its scores and intervals go into the card."""

    verified_on_affwild2: bool = False
    """State in the card that the scores were verified on Aff-Wild2, which va cannot check."""

    dry_run: Path | None = None
    """Write what would be uploaded into this folder instead; asks no network."""

    def __post_init__(self) -> None:
        """Check what is written."""
        require(bool(self.message.strip()), option="--message", value=self.message, expected="a message")
