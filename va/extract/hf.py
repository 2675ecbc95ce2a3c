"""`hf:MODEL`: any transformers vision or audio model with hidden states, from a hub id or a folder.

Vision (ViT, DINOv2, SigLIP, CLIP, ConvNeXt, ...): the pooled output where the checkpoint has one, else the mean token.
Audio (wav2vec 2.0, HuBERT, WavLM and their kin on waveforms, Whisper's encoder): the last hidden state, averaged into
half-second cells by token centre, as settled 2 does for AST. Code that comes with a checkpoint is never run, and only
safetensors are read.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel
from transformers.utils.logging import disable_progress_bar

from va import bounded, files, weights
from va.errors import VAError
from va.extract import hf_audio
from va.extract.config import HUGGING_FACE, ExtractConfig
from va.extract.digests import digest_of
from va.extract.encoders import Encoder, make_identity

_LOCAL: Final = {"local_files_only": True, "trust_remote_code": False}
_NEEDED: Final = ("config.json", "preprocessor_config.json")


def build(name: str, *, config: ExtractConfig, device: torch.device, folder: Path | None = None) -> Encoder:
    """Load a transformers model.

    Args:
        name: `hf:` and a hub id or a folder with config.json, preprocessor_config.json and safetensors.
        config: The stage's settings.
        device: Where the model goes.
        folder: What `save` wrote, to be loaded instead of the checkpoint that the name means.

    Raises:
        VAError: Files are missing or do not fit together, or it is no vision or audio model of a supported kind.
    """
    if folder is None:
        wanted = name.removeprefix(HUGGING_FACE)
        local = Path(wanted).expanduser()
        folder = local if wanted and local.is_dir() else weights.find_folder(wanted, encoder=name)
        if folder == local:
            name = HUGGING_FACE + local.resolve().name  # a path says where features came from, not what they are
    model, lacking = _load(folder, device)
    settings = {needed: digest_of(folder / needed) for needed in _NEEDED}
    vision = model.main_input_name == "pixel_values"
    if any(not (vision and key.startswith("pooler.")) for key in lacking):
        raise VAError(f"{folder}: the weights lack {', '.join(sorted(lacking)[:3])}", "Bring the whole checkpoint.")
    if vision:
        encoder = _vision(model, folder, name=name, settings=settings, has_pooler=not lacking, config=config)
    else:
        digest = _weights_digest(folder)
        encoder = hf_audio.wrap(model, folder, name=name, weights_digest=digest, settings=settings, config=config)
    return dataclasses.replace(encoder, save=partial(_save, model, lacking, folder))


def _save(model: Any, lacking: set[str], source: Path, folder: Path) -> None:
    """Write the whole checkpoint with the tower's weights in it, in one file; what it lacked it lacks again."""
    whole, part = _open(source)[:2]
    tower = getattr(whole, part) if part else whole
    tower.load_state_dict({name: tensor.detach().cpu() for name, tensor in model.state_dict().items()})
    prefix = f"{part}." if part else ""
    left_out = {prefix + name for name in lacking}
    state = {name: tensor for name, tensor in whole.state_dict().items() if name not in left_out}
    whole.save_pretrained(folder, state_dict=state, max_shard_size="1TB")
    for file in folder.iterdir():  # its weights alone: its settings have another hash once they are written again
        if file.suffix == ".safetensors":
            files.write_bytes(file, file.read_bytes())
        else:
            file.unlink()
    for needed in _NEEDED:
        files.write_bytes(folder / needed, (source / needed).read_bytes())


def _load(folder: Path, device: torch.device) -> tuple[Any, set[str]]:
    """Load the image or sound tower and say which of its weights are not in the checkpoint."""
    model, part, lacking = _open(folder)
    if part:
        model = getattr(model, part)
        lacking = {key.removeprefix(f"{part}.") for key in lacking if key.startswith(f"{part}.")}
    return model.to(device).eval().requires_grad_(False), lacking


def _open(folder: Path) -> tuple[Any, str, set[str]]:
    """Load a whole checkpoint: the model, the part of it that is used ("" for all), the weights that it lacks."""
    disable_progress_bar()  # of transformers: one of ours is on screen already
    for needed in _NEEDED:
        if not (folder / needed).is_file():
            raise VAError(f"{folder / needed}: does not exist", "Bring the whole checkpoint into one folder.")
    _weight_files(folder)
    try:
        config = AutoConfig.from_pretrained(folder, **_LOCAL)
        model, info = AutoModel.from_pretrained(
            folder, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **_LOCAL
        )
    except Exception as error:  # transformers raises many types for a folder that does not fit
        raise VAError(
            f"{folder}: cannot be loaded ({str(error).splitlines()[0]})",
            "Bring config.json, preprocessor_config.json and *.safetensors of a model that transformers knows.",
        ) from None
    lacking = {str(key) for key in info["missing_keys"]} | {str(key[0]) for key in info["mismatched_keys"]}
    if hasattr(model, "vision_model"):  # of a two-tower model
        return model, "vision_model", lacking
    part = "encoder" if config.is_encoder_decoder and hasattr(model, "encoder") else ""
    return model, part, lacking


def _weight_files(folder: Path) -> list[Path]:
    """List the files that transformers takes the weights from; none where there is no safetensors file.

    Raises:
        VAError: The index names something else than files of the folder.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():
        return [whole] if whole.is_file() else []
    hint = "Bring the whole checkpoint."
    parts = bounded.read_json(index, what="an index of weights", hint=hint).get("weight_map")
    names = set(map(str, parts.values())) if isinstance(parts, dict) else {""}
    for name in sorted(names):
        if Path(name).name != name or not (folder / name).is_file():
            raise VAError(f"{index}: '{name}' is not a file of its folder", hint)
    return [folder / name for name in sorted(names)]


def _weights_digest(folder: Path) -> str:
    return digest_of(*_weight_files(folder))


def _vision(
    model: Any, folder: Path, *, name: str, settings: dict[str, str], has_pooler: bool, config: ExtractConfig
) -> Encoder:
    try:
        processor = AutoImageProcessor.from_pretrained(folder, **_LOCAL)
    except Exception as error:  # as in _load
        raise VAError(
            f"{folder}: has no image processor ({str(error).splitlines()[0]})", "Bring its preprocessor_config.json."
        ) from None

    transform = partial(process, processor=processor)
    wide, tall = (transform(np.zeros(shape, np.uint8)) for shape in ((64, 96, 3), (96, 64, 3)))
    if wide.shape != tall.shape:
        raise VAError(
            f"{folder}: its image processor keeps a picture's aspect, so that pictures do not fit into one batch",
            "Give preprocessor_config.json a size with height and width, or a crop.",
        )
    example = torch.from_numpy(wide)[None].to(next(model.parameters()).device)
    # Pooling weights that the checkpoint lacks are random: features through them would look like features.
    pooled = has_pooler and getattr(model(pixel_values=example), "pooler_output", None) is not None

    def encode(images: Tensor) -> Tensor:
        output = model(pixel_values=images)
        if pooled:
            return torch.as_tensor(output.pooler_output).flatten(1).float()
        # [B, tokens, dim], or [B, dim, height, width] of a convolutional model
        hidden = torch.as_tensor(output.last_hidden_state).float()
        return hidden.mean(dim=1) if hidden.ndim == 3 else hidden.flatten(2).mean(dim=2)

    dim = int(encode(example).shape[-1])
    preprocessing = {**settings, "output": "pooled output" if pooled else "mean over the last hidden state"}
    identity = make_identity(
        name, kind="frames", dim=dim, weights=_weights_digest(folder), preprocessing=preprocessing, config=config
    )
    return Encoder(
        name=name, kind="frames", identity=identity, dim=dim, transform=transform, encode=encode, tower=model
    )


def process(rgb: NDArray[Any], *, processor: Any) -> NDArray[np.float32]:
    """Make a model's input of a picture, uint8 [H, W, 3], by its own image processor."""
    made = processor(images=Image.fromarray(rgb), return_tensors="pt")["pixel_values"]
    return np.asarray(made[0].numpy(), dtype=np.float32)
