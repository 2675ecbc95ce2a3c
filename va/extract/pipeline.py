"""Stage one: decode -> transform -> encode -> write, clip by clip. The only module here that knows the others.

Run it as `va extract CORPUS --out FEATURES`. A clip that fails leaves a record in `FEATURES/failures/` and loses
none of the others; a second run redoes what is missing, damaged or made from another source, and nothing else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va import files
from va.data import media, prototypes, timeline
from va.data.corpus import Clip, Corpus
from va.data.features import ClipFeatures, FeatureStore, Source
from va.data.prototypes import Prototypes
from va.data.regions import REGION_TEXTS, TEMPLATES
from va.device import choose_device
from va.errors import VAError
from va.extract import decode, encoders, spectrum
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder
from va.extract.pictures import Pictures

_FAILURES: Final = "failures"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did.

    Args:
        written: Clips of which at least one encoder's features were written.
        present: Clips that needed nothing.
        failed: Clip id -> why.
        left: Clips that a stopped run did not come to.
        stores: Folder of every encoder.
    """

    written: int
    present: int
    failed: dict[str, str]
    left: int
    stores: tuple[Path, ...]


def run(
    config: ExtractConfig, *, progress: Callable[[int, int, str], None], stopping: Callable[[], bool] = lambda: False
) -> Summary:
    """Extract every clip of a corpus, or of a part of it, with every chosen encoder.

    Args:
        config: The stage's settings.
        progress: Called with (clips done, clips in all, clip id).
        stopping: Asked before each clip; True ends the run as if there were no more clips.

    Raises:
        VAError: The corpus or an encoder's weights cannot be had, and nothing is written; or the store cannot be
            written any more, and what was written before is whole.
    """
    corpus = Corpus.load(config.corpus)
    device = choose_device(config.device)
    pictures = Pictures(config)
    loaded = [encoders.build(name, config=config, device=device) for name in config.chosen]
    for encoder in loaded:  # two folders may have one name
        if sum(other.name == encoder.name for other in loaded) > 1:
            raise VAError(f"--encoders: two of them are called '{encoder.name}'", "Rename a folder or name one only.")
    pairs = [(encoder, FeatureStore.create(config.out, encoder.identity)) for encoder in loaded]
    for encoder, store in pairs:
        _keep_prototypes(encoder, store)
    index, parts = map(int, config.part.split("/"))
    clips = corpus.clips[index - 1 :: parts]
    written, present, failed = 0, 0, {}
    for done, clip in enumerate(clips):
        progress(done, len(clips), clip.id)
        if stopping():
            break
        record = config.out / _FAILURES / f"{files.safe_name(clip.id)}.json"
        try:
            wrote = _extract_clip(clip, pictures, pairs, config, device)
        except VAError as error:
            if isinstance(error.__cause__, OSError):  # the store's disk, not the clip: every other clip would fail too
                raise
            failed[clip.id] = error.message
            files.write_json(record, {"clip": clip.id, "media": str(clip.media), "error": error.message})
            continue
        record.unlink(missing_ok=True)
        written, present = (written + 1, present) if wrote else (written, present + 1)
    else:
        progress(len(clips), len(clips), "")
    return Summary(
        written=written,
        present=present,
        failed=failed,
        left=len(clips) - written - present - len(failed),
        stores=tuple(store.directory for _, store in pairs),
    )


@torch.inference_mode()
def encode_medium(
    path: Path,
    chosen: list[Encoder],
    *,
    clip_id: str,
    pictures: Pictures,
    config: ExtractConfig,
    device: torch.device,
) -> list[ClipFeatures]:
    """Encode one medium with several encoders, decoding its pictures once.

    Args:
        path: The medium.
        chosen: Encoders, in any order.
        clip_id: Which person and which crops, where the medium alone does not say.
        pictures: Gives the frame encoders' pictures.
        config: The stage's settings.
        device: Where the encoders are.

    Returns:
        Features in the order of `chosen`.

    Raises:
        VAError: The medium cannot be decoded, or an encoder gives non-finite values.
    """
    info = media.probe(path)
    of_frames = [encoder for encoder in chosen if encoder.kind == "frames"]
    names = [encoder.name for encoder in of_frames]
    shown = pictures.of(path, clip_id=clip_id, info=info)
    found = dict(zip(names, _encode_frames(shown, of_frames, config, device), strict=True))
    for encoder in chosen:
        if encoder.kind == "audio":
            found[encoder.name] = _encode_audio(path, encoder, info.duration_s, config, device)
    for name, features in found.items():
        if not np.isfinite(features.values).all():
            raise VAError(f"{path}: '{name}' gave values that are not finite", "Check the medium's sound.")
    return [found[encoder.name] for encoder in chosen]


def _keep_prototypes(encoder: Encoder, store: FeatureStore) -> None:
    """Write the prototypes of the default texts unless there are some already, which may be of the user's texts."""
    if encoder.prototypes is None:
        return
    try:
        prototypes.read(store.directory)
    except VAError:
        values = encoder.prototypes(REGION_TEXTS, TEMPLATES)
        prototypes.write(store.directory, Prototypes(texts=REGION_TEXTS, templates=TEMPLATES, values=values))


def _extract_clip(
    clip: Clip,
    pictures: Pictures,
    pairs: list[tuple[Encoder, FeatureStore]],
    config: ExtractConfig,
    device: torch.device,
) -> bool:
    """Extract what one clip lacks; False when it lacked nothing."""
    if not clip.media.is_file():
        raise VAError(f"{clip.media}: no such file", "Check the corpus folder; media may have been moved.")
    source = Source.of(clip.media, *pictures.files_of(clip.id))
    missing = [(encoder, store) for encoder, store in pairs if not store.is_done(clip.id, source)]
    if not missing:
        return False
    features = encode_medium(
        clip.media,
        [encoder for encoder, _ in missing],
        clip_id=clip.id,
        pictures=pictures,
        config=config,
        device=device,
    )
    for (_, store), found in zip(missing, features, strict=True):
        store.write(clip.id, found, source)
    return True


def _encode_frames(
    shown: Iterator[NDArray[np.uint8] | None], chosen: list[Encoder], config: ExtractConfig, device: torch.device
) -> list[ClipFeatures]:
    if not chosen:
        return []
    batches = [_Batch(encoder, config.frame_batch, device) for encoder in chosen]
    valid = []
    for rgb in shown:
        valid.append(rgb is not None)
        if rgb is not None:
            for batch in batches:
                batch.add(batch.encoder.transform(rgb))
    mask = np.array(valid)
    found = []
    for batch in batches:
        values = np.zeros((len(mask), batch.encoder.dim), np.float16)
        if mask.any():
            values[mask] = batch.finish()
        time_s = timeline.cell_centers(len(mask))
        found.append(ClipFeatures(values=values, time_s=time_s, valid=mask))
    return found


def _encode_audio(
    path: Path, encoder: Encoder, duration_s: float, config: ExtractConfig, device: torch.device
) -> ClipFeatures:
    assert encoder.spectrum is not None and encoder.valid_steps is not None  # true for every audio encoder
    starts_s = timeline.window_starts(duration_s, window_s=config.window_s, stride_s=config.stride_s)
    steps = timeline.cells_in(config.window_s, name="window")
    values = np.zeros((len(starts_s), steps, encoder.dim), np.float16)
    valid = np.zeros((len(starts_s), steps), np.bool_)
    batch = _Batch(encoder, config.audio_batch, device)
    heard = []
    rows = spectrum.row_blocks(decode.waveform_blocks(path, duration_s=duration_s), encoder.spectrum)
    for index, window in enumerate(spectrum.windows(rows, starts_s=starts_s, window_s=config.window_s)):
        valid[index] = encoder.valid_steps(len(window))
        if valid[index].any():
            heard.append(index)
            batch.add(encoder.transform(window), len(window))
    if heard:
        values[heard] = batch.finish()
    values[~valid] = 0
    return ClipFeatures(values=values, time_s=starts_s, valid=valid)


class _Batch:
    """Inputs gathered into padded batches of one size, so that a value does not depend on its neighbours.

    A library may pick another kernel, with another order of additions, for another batch size.
    """

    def __init__(self, encoder: Encoder, size: int, device: torch.device) -> None:
        self.encoder = encoder
        self._size = size
        self._device = device
        self._inputs: list[NDArray[np.float32]] = []
        self._extras: list[tuple[int, ...]] = []
        self._outputs: list[NDArray[np.float16]] = []

    def add(self, model_input: NDArray[np.float32], *extra: int) -> None:
        self._inputs.append(model_input)
        self._extras.append(extra)
        if len(self._inputs) == self._size:
            self._encode()

    def finish(self) -> NDArray[np.float16]:
        if self._inputs:
            self._encode()
        return np.concatenate(self._outputs)

    def _encode(self) -> None:
        count, padding = len(self._inputs), self._size - len(self._inputs)
        inputs = np.stack(self._inputs + [np.zeros_like(self._inputs[0])] * padding)
        extras = [torch.tensor(column + (1,) * padding) for column in zip(*self._extras, strict=True)]
        output: Tensor = self.encoder.encode(torch.from_numpy(inputs).to(self._device), *extras)
        self._outputs.append(output[:count].cpu().numpy().astype(np.float16))
        self._inputs, self._extras = [], []
