"""What a reader process does: one clip at a time, from the medium to model inputs, sent over a pipe as raw bytes.

Decoders are large C programs that read files from anywhere, so they run here and not in the process that owns the
store: a crash, a hang or a memory bomb ends this process and costs its clip only. Imports neither torch nor
encoders; the functions that make inputs come from the parent. Messages are a JSON header and, for inputs, the bytes of
one array: nothing that a broken decoder could send is ever executed by the parent.
"""

import contextlib
import json
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import tee
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from va import bounded
from va.data import media, timeline
from va.data.features import Kind, Source
from va.errors import VAError
from va.extract import decode, spectrum
from va.extract.config import ExtractConfig
from va.extract.pictures import Pictures, Sees
from va.extract.spectrum import Spectrum
from va.extract.watch import Watch, confine

_GROUP_BYTES: Final = 2 << 20
"""Inputs are sent in groups of about this size: fewer messages, still little memory in the queues."""

_HEADER_BYTES: Final = 1 << 20
_ARRAY_BYTES: Final = 1 << 30
"""The most that a message may claim; a reader that a hostile file has taken over must not exhaust the parent."""

_DTYPES: Final = ("uint8", "float32")


@dataclass(frozen=True, kw_only=True)
class Front:
    """The part of an encoder that runs in a reader.

    Args:
        name: Encoder name.
        kind: `frames` or `audio`.
        transform: As in `Encoder`.
        spectrum: As in `Encoder`; None for frames.
        sees: As in `Encoder`.
    """

    name: str
    kind: Kind
    transform: Callable[[NDArray[Any]], NDArray[Any]]
    spectrum: Spectrum | None
    sees: Sees = "picture"


def send(connection: Connection, header: dict[str, Any], array: NDArray[Any] | None = None) -> None:
    """Send a header and, with it, an array of uint8 or float32."""
    if array is not None:
        header = header | {"dtype": array.dtype.name, "shape": list(array.shape)}
    connection.send_bytes(json.dumps(header).encode())
    if array is not None:
        connection.send_bytes(np.ascontiguousarray(array).data.cast("B"))


def receive(connection: Connection) -> tuple[dict[str, Any], NDArray[Any] | None]:
    """Receive what `send` sent.

    Raises:
        EOFError: The other side has ended.
        ValueError: It is no such message.
    """
    header = bounded.parse_json(connection.recv_bytes(_HEADER_BYTES))
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    if "shape" not in header:
        return header, None
    shape = [int(length) for length in header["shape"]]
    if header["dtype"] not in _DTYPES or min(shape, default=0) < 1 or math.prod(shape) * 4 > _ARRAY_BYTES:
        raise ValueError(f"an array of {header['dtype']} {shape}")
    array = np.empty(shape, header["dtype"])
    if connection.recv_bytes_into(array.data.cast("B")) != array.nbytes:
        raise ValueError("an array of another size than announced")
    return header, array


def serve(connection: Connection, config: ExtractConfig, fronts: Sequence[Front], threads: int) -> None:
    """Read clips until the parent closes the pipe; the main function of a reader process.

    Args:
        connection: Receives `{"clip", "media"}`, and the encoders that lack a clip; sends the messages of `_Clip.read`,
            then `end` or `failed`.
        config: The stage's settings.
        fronts: Of every encoder of the run.
        threads: Of the video decoder.
    """
    cv2.setNumThreads(1)
    watch = confine(memory_bytes=int(config.memory_gb * 1e9), stall_s=config.stall_s)
    pictures = Pictures(config, threads=threads, watch=watch)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            wanted, _ = receive(connection)
            clip = _Clip(connection, wanted["clip"], Path(wanted["media"]), pictures, watch, config)
            answer = _answer(clip, fronts)
            watch.pause()
            send(connection, answer | {"busy": watch.busy})


def _answer(clip: "_Clip", fronts: Sequence[Front]) -> dict[str, Any]:
    try:
        clip.read(fronts)
    except VAError as error:
        return {"kind": "failed", "message": error.message}
    except MemoryError:
        message = f"{clip.path}: decoding it takes more memory than --memory-gb allows"
        return {"kind": "failed", "message": message}
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise  # the parent is gone
    except Exception as error:  # a defect of ours must cost one clip of a month's run, not the run
        message = f"{clip.path}: {type(error).__name__}: {error} (a defect of va; please report it)"
        return {"kind": "failed", "message": message}
    return {"kind": "end"}


class _Clip:
    """One clip on its way from the medium to the parent."""

    def __init__(
        self,
        connection: Connection,
        clip_id: str,
        path: Path,
        pictures: Pictures,
        watch: Watch,
        config: ExtractConfig,
    ) -> None:
        self.path = path
        self._connection = connection
        self._id = clip_id
        self._pictures = pictures
        self._watch = watch
        self._config = config

    def read(self, fronts: Sequence[Front]) -> None:
        """Send `source`; learn which encoders lack the clip; send `clip` and groups of `inputs`."""
        with self._watch.stage("hash"):
            if not self.path.is_file():
                raise VAError(f"{self.path}: no such file", "Check the corpus folder; media may have been moved.")
            source = Source.of(self.path, *self._pictures.files_of(self._id))
        send(self._connection, {"kind": "source", "size": source.size, "digest": source.digest})
        names = receive(self._connection)[0]["encoders"]
        if not names:
            return
        self._watch.beat()
        with self._watch.stage("decode"):
            info = media.probe(self.path, beat=self._watch.beat)
        send(self._connection, {"kind": "clip", "duration_s": info.duration_s})
        missing = [front for front in fronts if front.name in names]
        self._see(info, [_Group(self._connection, front, self._watch) for front in missing if front.kind == "frames"])
        self._hear(info, [_Group(self._connection, front, self._watch) for front in missing if front.kind == "audio"])

    def _see(self, info: media.MediaInfo, groups: "list[_Group]") -> None:
        if not groups:
            return
        for cell, picture in enumerate(self._pictures.of(self.path, clip_id=self._id, info=info)):
            if picture is None:
                continue
            made: dict[Hashable, NDArray[Any]] = {}  # encoders that make the same of a picture share it
            for group in groups:
                seen = picture.box if group.front.sees == "box" else picture.rgb
                if seen is not None:
                    made[group.recipe] = group.add(cell, seen, 0, made=made.get(group.recipe))
        for group in groups:
            group.flush()

    def _hear(self, info: media.MediaInfo, groups: "list[_Group]") -> None:
        """Cut the sound into windows for every audio encoder, decoding it once.

        All encoders cut the same windows, so they go through the sound together and `tee` holds a few blocks only.
        """
        if not groups:
            return
        window_s = self._config.window_s
        starts_s = timeline.window_starts(info.duration_s, window_s=window_s, stride_s=self._config.stride_s)
        sound = decode.waveform_blocks(self.path, duration_s=info.duration_s, beat=self._watch.beat)
        cut = []
        for group, blocks in zip(groups, tee(self._watch.each("sound", sound), len(groups)), strict=True):
            assert group.front.spectrum is not None  # true for every audio encoder
            rows = spectrum.row_blocks(blocks, group.front.spectrum)
            cut.append(spectrum.windows(rows, starts_s=starts_s, window_s=window_s))
        for index, windows in enumerate(self._watch.each("spectrum", zip(*cut, strict=True))):
            for group, heard in zip(groups, windows, strict=True):
                if len(heard):
                    group.add(index, heard, len(heard))
        for group in groups:
            group.flush()


def _recipe(front: Front) -> Hashable:
    """Give what is equal for encoders whose transforms do the same, as far as their settings can be compared."""
    transform = front.transform
    if isinstance(transform, partial):
        recipe = (front.sees, transform.func, transform.args, *sorted(transform.keywords.items()))
        with contextlib.suppress(TypeError):
            hash(recipe)
            return recipe
    return front.sees, id(transform)


class _Group:
    """Inputs of one encoder, gathered into one message."""

    def __init__(self, connection: Connection, front: Front, watch: Watch) -> None:
        self.front = front
        self.recipe = _recipe(front)
        self._connection = connection
        self._watch = watch
        self._inputs: list[NDArray[Any]] = []
        self._rows: list[int] = []
        self._counts: list[int] = []

    def add(self, row: int, raw: NDArray[Any], count: int, *, made: NDArray[Any] | None = None) -> NDArray[Any]:
        """Take one picture or box (cell `row`) or window (number `row`, `count` rows of spectrum).

        Args:
            row: Its number.
            raw: What is transformed.
            count: Rows of spectrum; 0 for frames.
            made: What another group of the same recipe has made of it already.

        Returns:
            The model input.
        """
        if made is None:
            with self._watch.stage("transform"):
                made = self.front.transform(raw)
        self._inputs.append(made)
        self._rows.append(row)
        self._counts.append(count)
        if len(self._inputs) * self._inputs[0].nbytes >= _GROUP_BYTES:
            self.flush()
        return made

    def flush(self) -> None:
        """Send what there is."""
        if not self._inputs:
            return
        self._watch.pause()  # a parent that is busy encoding makes this wait
        header = {"kind": "inputs", "encoder": self.front.name, "rows": self._rows, "counts": self._counts}
        send(self._connection, header | {"busy": self._watch.busy}, np.stack(self._inputs))
        self._watch.beat()
        self._inputs, self._rows, self._counts = [], [], []
