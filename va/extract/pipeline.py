"""Stage one: decode, faces, transform, encode, write, all at once. The module that knows all the others.

Run it as `va extract CORPUS --out FEATURES`. Reader processes turn media into model inputs, this process encodes them
in batches that fill across clips, a thread writes; the queues between them are bounded, so that memory grows neither
with a video nor with the corpus. A clip that fails leaves a record in `FEATURES/failures/` and loses none of the
others; a second run redoes what is missing, damaged or made from another source, and nothing else. `scaleout.py` does
the same on a cluster, with what is here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from va.data import prototypes, tuned
from va.data.corpus import Clip, Corpus
from va.data.features import FeatureStore
from va.data.prototypes import Prototypes
from va.data.regions import REGION_TEXTS, TEMPLATES
from va.device import choose_device
from va.errors import VAError
from va.extract import encoders
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder
from va.extract.extraction import Extraction, Report
from va.extract.pictures import Pictures
from va.extract.progress import Stage
from va.extract.watch import Watch


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did.

    Args:
        written: Clips of which at least one encoder's features were written.
        present: Clips that needed nothing.
        failed: Clip id -> why.
        left: Clips that a stopped run did not come to.
        stores: Folder of every encoder.
        mended: One line per damaged shard that was set aside.
        frames: Frames encoded, each counted once however many encoders saw it.
        windows: Audio windows encoded, likewise.
        elapsed_s: Seconds from the first clip to the last.
        stages: How busy every stage was.
    """

    written: int
    present: int
    failed: dict[str, str]
    left: int
    stores: tuple[Path, ...]
    mended: tuple[str, ...]
    frames: int
    windows: int
    elapsed_s: float
    stages: tuple[Stage, ...]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the clips of one run have in common.

    Args:
        loaded: Encoders of different names.
        stores: Encoder name -> store.
        device: Where the encoders are.
    """

    loaded: tuple[Encoder, ...]
    stores: dict[str, FeatureStore]
    device: torch.device


def run(
    config: ExtractConfig,
    *,
    progress: Report,
    stopping: Callable[[], bool] = lambda: False,
    loaded: Sequence[Encoder] | None = None,
) -> Summary:
    """Extract every clip of a corpus, or of a part of it, with every chosen encoder, in this process.

    Args:
        config: The stage's settings.
        progress: Called now and then with (clips done, clips in all, a line for a person).
        stopping: Asked before each clip; True ends the run as if there were no more clips.
        loaded: Encoders that `encoders.build_all` made with these settings, for one who extracts often; None loads
            those that are chosen.

    Raises:
        VAError: The corpus or an encoder's weights cannot be had, and nothing is written; or the store cannot be
            written any more, and what was written before is whole.
    """
    clips = clips_of(config)
    prepared = prepare(config, loaded)
    mended = complete(prepared)
    return extract(config, prepared, clips, mended=mended, progress=progress, stopping=stopping)


def clips_of(config: ExtractConfig) -> tuple[Clip, ...]:
    """List the clips of a run, `--part` of the corpus.

    Raises:
        VAError: The corpus cannot be read.
    """
    index, parts = map(int, config.part.split("/"))
    return Corpus.load(config.corpus).clips[index - 1 :: parts]


@torch.inference_mode()
def prepare(config: ExtractConfig, loaded: Sequence[Encoder] | None) -> Prepared:
    """Load encoders and open their stores; `loaded` as in `run`.

    Raises:
        VAError: An encoder's weights cannot be had, and nothing is written.
    """
    device = choose_device(config.device)
    Pictures(config, threads=1, watch=Watch(stall_s=0))  # a detector that cannot be loaded must not end a reader
    if loaded is None:
        loaded = encoders.build_all(config.chosen, config=config, device=device)
    for encoder in loaded:  # two folders may have one name
        if sum(other.name == encoder.name for other in loaded) > 1:
            raise VAError(f"--encoders: two of them are called '{encoder.name}'", "Rename a folder or name one only.")
    stores = {encoder.name: FeatureStore.create(config.out, encoder.identity) for encoder in loaded}
    return Prepared(loaded=tuple(loaded), stores=stores, device=device)


@torch.inference_mode()
def complete(prepared: Prepared) -> tuple[str, ...]:
    """Mend the stores and give them prototypes, once per run; says which shards were set aside."""
    mended = [line for store in prepared.stores.values() for line in store.mend()]
    for encoder in prepared.loaded:
        _keep_prototypes(encoder, prepared.stores[encoder.name])
        if encoder.folder is not None:
            tuned.write_folder(prepared.stores[encoder.name].directory, encoder.folder)
    return tuple(mended)


@torch.inference_mode()
def extract(
    config: ExtractConfig,
    prepared: Prepared,
    clips: Sequence[Clip],
    *,
    mended: tuple[str, ...],
    progress: Report,
    stopping: Callable[[], bool],
) -> Summary:
    """Extract some clips; arguments and errors as in `run`."""
    extraction = Extraction(config, prepared.loaded, prepared.stores, clips, device=prepared.device, report=progress)
    extraction.run(stopping)
    done = extraction.written + extraction.present + len(extraction.failed)
    return Summary(
        written=extraction.written,
        present=extraction.present,
        failed=extraction.failed,
        left=len(clips) - done,
        stores=tuple(store.directory for store in prepared.stores.values()),
        mended=mended,
        frames=extraction.most("frames"),
        windows=extraction.most("audio"),
        elapsed_s=extraction.elapsed_s,
        stages=extraction.stages,
    )


def _keep_prototypes(encoder: Encoder, store: FeatureStore) -> None:
    """Write the prototypes of the default texts unless there are some already, which may be of the user's texts."""
    if encoder.prototypes is None:
        return
    try:
        prototypes.read(store.directory)
    except VAError:
        values = encoder.prototypes(REGION_TEXTS, TEMPLATES)
        prototypes.write(store.directory, Prototypes(texts=REGION_TEXTS, templates=TEMPLATES, values=values))
