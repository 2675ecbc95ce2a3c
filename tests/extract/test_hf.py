"""Models of transformers as encoders: built tiny and random, saved, and held against the library used by hand."""

import json
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from support import make_video

from va import files, weights
from va.data import corpus
from va.data.corpus import Clip, Truth
from va.data.features import FeatureStore, choose_store
from va.data.media import probe
from va.data.tuned import Kind
from va.errors import VAError
from va.extract import encoders, hf_audio, pipeline, tuned
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder

CPU = torch.device("cpu")
SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
IMAGE = SMALL | {"image_size": 28, "patch_size": 14}
CONVOLUTIONS = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
WHISPER = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}


def config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"), **({"window_s": 2.0, "stride_s": 1.0} | changes))


def save(folder: Path, model: Any, processor: Any) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def vision_processor(**size: int) -> Any:
    return transformers.ViTImageProcessor(size=size or {"height": 28, "width": 28})


def dinov2(folder: Path) -> Path:
    torch.manual_seed(0)
    model = transformers.Dinov2Model(transformers.Dinov2Config(**IMAGE))
    return save(folder, model, transformers.BitImageProcessor(size={"shortest_edge": 28}, crop_size=28))


def siglip(folder: Path) -> Path:
    torch.manual_seed(1)
    shape = transformers.SiglipConfig(text_config=SMALL | {"vocab_size": 9}, vision_config=IMAGE)
    return save(
        folder, transformers.SiglipModel(shape), transformers.SiglipImageProcessor(size={"height": 28, "width": 28})
    )


def vit(folder: Path, *, pooler: bool = True) -> Path:
    torch.manual_seed(2)
    model = transformers.ViTModel(transformers.ViTConfig(**IMAGE), add_pooling_layer=pooler)
    return save(folder, model, vision_processor())


def convnext(folder: Path) -> Path:
    torch.manual_seed(3)
    shape = transformers.ConvNextConfig(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1])
    return save(
        folder, transformers.ConvNextModel(shape), transformers.ViTImageProcessor(size={"height": 64, "width": 64})
    )


def wavlm(folder: Path, *, mask: bool = False) -> Path:
    torch.manual_seed(4)
    # With a mask the published models normalise layers, not groups over time: only then is padding without effect.
    norm = {"feat_extract_norm": "layer", "do_stable_layer_norm": True} if mask else {}
    model = transformers.WavLMModel(transformers.WavLMConfig(**SMALL, **CONVOLUTIONS, **norm))
    return save(folder, model, transformers.Wav2Vec2FeatureExtractor(do_normalize=mask, return_attention_mask=mask))


def whisper(folder: Path) -> Path:
    torch.manual_seed(5)
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8, "vocab_size": 9}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    shape = transformers.WhisperConfig(**WHISPER, **decoder, **special, max_source_positions=200)
    return save(folder, transformers.WhisperModel(shape), transformers.WhisperFeatureExtractor(chunk_length=4))


def load(folder: Path, **changes: Any) -> Encoder:
    return encoders.build(f"hf:{folder}", config=config(**changes), device=CPU)


def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def sound(seconds: float) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(1).normal(size=round(seconds * 16_000))).astype(np.float32)


@torch.inference_mode()
def encode_sound(encoder: Encoder, waveform: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    assert encoder.spectrum is not None and encoder.valid_steps is not None
    rows = encoder.spectrum(waveform)
    inputs = torch.from_numpy(encoder.transform(rows))[None]
    return encoder.encode(inputs, torch.tensor([len(rows)]))[0].numpy(), encoder.valid_steps(len(rows))


@pytest.mark.parametrize("make", [dinov2, siglip, vit, convnext])
@torch.inference_mode()
def test_a_picture_gives_the_librarys_pooled_output(tmp_path: Path, make: Any) -> None:
    folder = make(tmp_path / "model")
    encoder = load(folder)
    found = encoder.encode(torch.from_numpy(encoder.transform(picture()))[None])
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    pixels = processor(images=picture(), return_tensors="pt")["pixel_values"]
    tower = model.vision_model if make is siglip else model
    expected = tower(pixel_values=pixels).pooler_output.flatten(1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert encoder.kind == "frames"
    assert found.shape == (1, encoder.dim) == (1, 16)
    assert encoder.identity["encoder"] == "hf:model"
    assert encoder.identity["preprocessing"]["output"] == "pooled output"


@torch.inference_mode()
def test_a_pooler_that_the_checkpoint_lacks_is_not_used(tmp_path: Path) -> None:
    """transformers would make one of random numbers."""
    folder = vit(tmp_path / "model", pooler=False)
    encoder = load(folder)
    found = encoder.encode(torch.from_numpy(encoder.transform(picture()))[None])
    model = transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(images=picture(), return_tensors="pt")
    np.testing.assert_allclose(found, model(**pixels).last_hidden_state.mean(dim=1), atol=1e-6)
    assert encoder.identity["preprocessing"]["output"] == "mean over the last hidden state"


@torch.inference_mode()
def test_waveform_tokens_are_averaged_by_cell(tmp_path: Path) -> None:
    """WavLM's receptive field of 400 samples every 320: cells of 25 tokens, counted out by hand."""
    folder = wavlm(tmp_path / "model")
    found, valid = encode_sound(load(folder), sound(2))
    model = transformers.WavLMModel.from_pretrained(folder).eval()
    heard = torch.from_numpy(sound(2)[:31_920])[None]  # 198 rows
    tokens = model(heard).last_hidden_state[0].numpy()
    center_s = (np.arange(len(tokens)) * 320 + 200) / 16_000
    expected = [tokens[(center_s >= 0.5 * cell) & (center_s < 0.5 * cell + 0.5)].mean(axis=0) for cell in range(4)]
    assert len(tokens) == 99
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert valid.all()


@torch.inference_mode()
def test_whispers_encoder_is_averaged_by_cell_without_its_padding(tmp_path: Path) -> None:
    folder = whisper(tmp_path / "model")
    encoder = load(folder)
    found, valid = encode_sound(encoder, sound(2)[:20_080])  # 124 rows, all 20,080 samples: 1.255 s
    model = transformers.WhisperModel.from_pretrained(folder).get_encoder().eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    mel = extractor(sound(2)[:20_080], sampling_rate=16_000, return_tensors="pt")["input_features"]
    tokens = model(mel).last_hidden_state[0].numpy()
    assert tokens.shape == (200, 16)
    # Token j is centred at 0.02 j s and sees 520 samples to either side; 61 is the last to see none of the padding.
    expected = [tokens[:25].mean(axis=0), tokens[25:50].mean(axis=0), tokens[50:62].mean(axis=0)]
    np.testing.assert_allclose(found[:3], expected, atol=1e-5)
    assert valid.tolist() == [True, True, True, False]
    assert not found[3].any()


@torch.inference_mode()
def test_a_mask_keeps_padding_out_of_a_short_window(tmp_path: Path) -> None:
    """The sound alone, unpadded, through the library: what the padded window must give."""
    folder = wavlm(tmp_path / "model", mask=True)
    found, valid = encode_sound(load(folder), sound(1.255))
    model = transformers.WavLMModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    alone = extractor(sound(1.255), sampling_rate=16_000, return_tensors="pt")["input_values"]
    tokens = model(alone).last_hidden_state[0].numpy()
    np.testing.assert_allclose(found[:2], [tokens[:25].mean(axis=0), tokens[25:50].mean(axis=0)], atol=1e-4)
    assert valid.tolist() == [True, True, True, False]


@pytest.mark.parametrize("make", [wavlm, whisper])
@torch.inference_mode()
def test_no_sound_at_all_and_padded_batches(tmp_path: Path, make: Any) -> None:
    encoder = load(make(tmp_path / "model"))
    assert encoder.spectrum is not None and encoder.valid_steps is not None
    assert not encoder.valid_steps(0).any()
    rows = encoder.spectrum(sound(2))
    alone = torch.from_numpy(encoder.transform(rows))[None]
    padded = torch.cat([alone, torch.zeros_like(alone)])
    both = encoder.encode(padded, torch.tensor([len(rows), 1]))
    torch.testing.assert_close(both[0], encoder.encode(alone, torch.tensor([len(rows)]))[0], atol=1e-5, rtol=0)
    assert torch.isfinite(both).all()


@pytest.mark.parametrize("make", [dinov2, siglip, convnext, wavlm, whisper])
def test_readers_get_the_processor_by_pickle(tmp_path: Path, make: Any) -> None:
    """Other processes apply it, without the model."""
    encoder = load(make(tmp_path / "model"))
    data = pickle.dumps((encoder.transform, encoder.spectrum))
    assert len(data) < 200_000  # Whisper's has its mel filters in it
    transform, spectrum = pickle.loads(data)  # noqa: S301 -- written a line above
    given = picture() if spectrum is None else spectrum(sound(2))
    made = transform(given)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, encoder.transform(given))


def test_a_processor_that_keeps_the_aspect_is_refused(tmp_path: Path) -> None:
    """Its pictures would have different shapes and not fit into one batch."""
    folder = dinov2(tmp_path / "model")
    transformers.BitImageProcessor(size={"shortest_edge": 28}, do_center_crop=False).save_pretrained(folder)
    with pytest.raises(VAError, match="its image processor keeps a picture's aspect"):
        load(folder)


@pytest.mark.parametrize("make", [vit, convnext, wavlm, whisper])
@torch.inference_mode()
def test_sixteen_bits_are_near_single_precision(tmp_path: Path, make: Any) -> None:
    folder = make(tmp_path / "model")
    plain, half = load(folder), load(folder, precision="bfloat16")
    if plain.spectrum is None:
        given: tuple[torch.Tensor, ...] = (torch.from_numpy(plain.transform(picture()))[None],)
    else:
        rows = plain.spectrum(sound(2))
        given = (torch.from_numpy(plain.transform(rows))[None], torch.tensor([len(rows)]))
    expected, found = plain.encode(*given), half.encode(*given)
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found, expected, dim=-1).min() > 0.99
    assert not torch.equal(found, expected)
    assert half.identity == {**plain.identity, "compute_dtype": "bfloat16"}


@pytest.mark.parametrize("samples", [400, 559, 560, 16_000])
def test_rows_join_to_the_waveform_again(samples: int) -> None:
    waveform = sound(1)[:samples]
    joined = hf_audio.join_rows(hf_audio.split_rows(waveform))
    assert len(joined) == hf_audio.num_samples(len(hf_audio.split_rows(waveform))) > samples - 160
    np.testing.assert_array_equal(joined, waveform[: len(joined)])


def test_the_identity_tells_weights_and_settings_apart(tmp_path: Path) -> None:
    folder = vit(tmp_path / "model")
    before = load(folder).identity
    elsewhere = tmp_path / "copy" / "model"
    elsewhere.parent.mkdir()
    folder.rename(elsewhere)
    assert load(elsewhere).identity == before, "where the files lie does not matter"
    file = elsewhere / "model.safetensors"
    state = load_file(file)
    state["layernorm.bias"] = state["layernorm.bias"] + 1
    save_file(state, file, metadata={"format": "pt"})
    changed = load(elsewhere).identity
    assert changed["weights"] != before["weights"]
    (elsewhere / "preprocessor_config.json").write_text(
        (elsewhere / "preprocessor_config.json").read_text().replace("0.5", "0.4")
    )
    assert load(elsewhere).identity["preprocessing"] != changed["preprocessing"]


def test_a_checkpoint_in_several_files_is_hashed_whole(tmp_path: Path) -> None:
    torch.manual_seed(2)
    folder = tmp_path / "model"
    transformers.ViTModel(transformers.ViTConfig(**IMAGE)).save_pretrained(folder, max_shard_size="8KB")
    vision_processor().save_pretrained(folder)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    before = load(folder).identity["weights"]
    state = load_file(shards[-1])
    name = next(iter(state))
    save_file({**state, name: state[name] + 1}, shards[-1], metadata={"format": "pt"})
    assert load(folder).identity["weights"] != before


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    file = vit(tmp_path / "model") / "model.safetensors"
    state = load_file(file)
    del state["layernorm.bias"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(VAError, match=r"the weights lack layernorm\.bias"):
        load(tmp_path / "model")


def test_formats_that_can_execute_code_are_not_read(tmp_path: Path) -> None:
    folder = vit(tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(VAError, match="cannot be loaded"):
        load(folder)


def test_code_beside_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    folder = vit(tmp_path / "model")
    marker = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    file = folder / "config.json"
    auto = '{"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}, "model_type": "strange",'
    file.write_text(file.read_text().replace("{", auto, 1).replace('"model_type": "vit",', ""))
    with pytest.raises(VAError, match="cannot be loaded"):
        load(folder)
    assert not marker.exists()


@pytest.mark.parametrize("make", ["vit", "wavlm"])
@pytest.mark.parametrize("kind", ["known", "strange"])
def test_code_beside_a_processor_is_not_run(tmp_path: Path, make: str, kind: str) -> None:
    """Every file that may name code, with a class that transformers knows beside it and without one."""
    folder = {"vit": vit, "wavlm": wavlm}[make](tmp_path / "model")
    marker = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Thing: pass\n")
    names = ("AutoConfig", "AutoModel", "AutoImageProcessor", "AutoProcessor", "AutoFeatureExtractor", "AutoTokenizer")
    for name in ("config.json", "preprocessor_config.json"):
        values = json.loads((folder / name).read_text()) | {"auto_map": dict.fromkeys(names, "evil.Thing")}
        if kind == "strange":
            values = {key: value for key, value in values.items() if not key.endswith(("_type", "architectures"))}
        (folder / name).write_text(json.dumps(values))
    if kind == "known":
        assert load(folder).dim > 0
    else:
        with pytest.raises(VAError):
            load(folder)
    assert not marker.exists()


def test_the_identity_names_the_weights_that_are_loaded(tmp_path: Path) -> None:
    """transformers takes model.safetensors where it is, whatever an index beside it says."""
    folder = vit(tmp_path / "model")
    before = load(folder).identity
    (folder / "other.safetensors").write_bytes(b"other")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "other.safetensors"}}')
    assert load(folder).identity == before


NO_INDEX = ["[]", "{", "[1]", '{"weight_map": []}', '{"weight_map": {"a": 3}}']
NO_INDEX += [f'{{"weight_map": {{"a": "{name}"}}}}' for name in ("../x", "/x", "..", "")]


@pytest.mark.parametrize("index", NO_INDEX)
def test_an_index_of_weights_that_leads_elsewhere_is_refused(tmp_path: Path, index: str) -> None:
    folder = vit(tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "x")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(VAError, match=r"index\.json: "):
        load(folder)


def test_what_does_not_follow_time_is_refused(tmp_path: Path) -> None:
    """AST's tokens are frequency by time: averaged as if in time order, they would be nonsense (R5)."""
    shape = transformers.ASTConfig(**SMALL, max_length=64, num_mel_bins=32)
    folder = save(tmp_path / "model", transformers.ASTModel(shape), transformers.ASTFeatureExtractor())
    with pytest.raises(VAError, match="tokens follow time"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = vit(tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(VAError, match=f"{name}: does not exist"):
        load(folder)


def test_files_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = vit(tmp_path / "model")
    load(folder)
    readable = files.hash_file

    def refuse(path: Path) -> str:
        if path.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied")
        return readable(path)

    monkeypatch.setattr(files, "hash_file", refuse)
    with pytest.raises(VAError, match=r"model\.safetensors: cannot be read \(Permission denied\)"):
        load(folder)


def test_a_window_longer_than_the_model_takes(tmp_path: Path) -> None:
    with pytest.raises(VAError, match=r"--window-s: 10 s does not fit the 4 s"):
        load(whisper(tmp_path / "model"), window_s=10.0)


def test_sound_at_another_rate_is_refused(tmp_path: Path) -> None:
    folder = wavlm(tmp_path / "model")
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder)
    with pytest.raises(VAError, match="wants sound at 8000 Hz"):
        load(folder)


@pytest.mark.parametrize("name", ["hf:/no/such/folder", "hf:../x", "hf:a/b/c", "hf:"])
def test_neither_folder_nor_hub_id(name: str) -> None:
    with pytest.raises(VAError, match="no such folder, and no hub id either"):
        encoders.build(name, config=config(), device=CPU)


def test_a_hub_id_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = vit(tmp_path / "model")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repository, name: _in(folder, name))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = encoders.build("hf:owner/model-1", config=config(), device=CPU)
    assert encoder.identity["encoder"] == "hf:owner/model-1"
    (folder / "model.safetensors").unlink()
    assert weights.cached_folder("owner/model-1") is None
    with pytest.raises(VAError, match=r"'hf:owner/model-1' are not cached.*HF_HUB_OFFLINE is set"):
        encoders.build("hf:owner/model-1", config=config(), device=CPU)


def test_a_corpus_is_extracted_through_the_pipeline(tmp_path: Path) -> None:
    """Sound for 1.5 of 2.6 s, windows of 2 s every second; the names are those typed, folders are portable."""
    make_video(tmp_path / "a.mp4", seconds=2.6, audio=0.3 * np.sin(np.arange(round(1.5 * 44_100)) / 20))
    clip = Clip(
        id="a",
        media=tmp_path / "a.mp4",
        split="train",
        identity="a",
        num_frames=1,
        duration_s=probe(tmp_path / "a.mp4").duration_s,
    )
    truth = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.ones(1, np.bool_))
    made = corpus.save(tmp_path, name="x", synthetic=True, media_root=tmp_path, entries=[(clip, truth)])
    names = (f"hf:{dinov2(tmp_path / 'dinov2')}", f"hf:{wavlm(tmp_path / 'wavlm')}", "logmel")
    settings = ExtractConfig(
        corpus=made.path, out=tmp_path / "features", encoders=names, window_s=2.0, stride_s=1.0, device="cpu"
    )
    summary = pipeline.run(settings, progress=lambda *_: None)
    assert summary.failed == {}
    face, voice, mel = (FeatureStore(folder) for folder in summary.stores)
    assert [store.encoder for store in (face, voice, mel)] == ["hf:dinov2", "hf:wavlm", "logmel"]
    assert face.directory.name.startswith("hf-dinov2-")
    assert face.read("a").values.shape == (6, 16)
    assert voice.read("a").values.shape == (2, 4, 16)
    assert mel.read("a").values.shape == (2, 4, 3200)
    for store in (voice, mel):
        assert store.read("a").valid[:, :1].all()
        assert not store.read("a").valid[1, 2:].any()
    assert choose_store(tmp_path / "features", kind="audio", name="hf:wavlm", option="--voice-encoder").dim == 16


def test_two_checkpoints_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    made = corpus.save(tmp_path, name="x", synthetic=True, media_root=tmp_path, entries=[])
    names = tuple(f"hf:{vit(tmp_path / folder / 'model')}" for folder in ("one", "two"))
    settings = ExtractConfig(corpus=made.path, out=tmp_path / "features", encoders=names, device="cpu")
    with pytest.raises(VAError, match="two of them are called 'hf:model'"):
        pipeline.run(settings, progress=lambda *_: None)
    assert not (tmp_path / "features").exists()


def test_mel_models_of_another_geometry_are_refused(tmp_path: Path) -> None:
    """Speech2Text looks like Whisper from outside, but its tokens are 40 ms apart."""
    shape = transformers.Speech2TextConfig(
        d_model=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=8,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=8,
        vocab_size=9,
        conv_channels=8,
    )
    # Whisper's extractor, because the model's own needs another package.
    folder = save(tmp_path / "model", transformers.Speech2TextModel(shape), transformers.WhisperFeatureExtractor())
    with pytest.raises(VAError, match="tokens follow time"):
        load(folder)


def _in(folder: Path, name: str) -> str | None:
    return str(folder / name) if (folder / name).exists() else None


@pytest.mark.parametrize("make", [dinov2, siglip, partial(vit, pooler=False), wavlm, whisper])
@torch.inference_mode()
def test_a_fine_tuned_model_is_kept_and_loaded_again(tmp_path: Path, make: Any) -> None:
    """To the bit, and with what the checkpoint lacks still lacking: a pooler of random weights must not come back."""
    first = load(make(tmp_path / "model"), window_s=4.0)
    assert first.tower is not None
    for parameter in first.tower.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))
    kind: Kind = "face" if first.kind == "frames" else "voice"
    identity = tuned.keep(tmp_path / "run", first, kind=kind)
    again = tuned.load_from(
        [tmp_path / "run" / "encoders" / kind],
        identity,
        kind=kind,
        whose=tmp_path,
        config=config(window_s=4.0),
        device=CPU,
    )
    assert again.identity == identity
    assert identity["encoder"] == "hf:model@run"
    if first.kind == "frames":
        pictures = torch.from_numpy(first.transform(picture()))[None]
        np.testing.assert_array_equal(again.encode(pictures), first.encode(pictures))
    else:
        np.testing.assert_array_equal(encode_sound(again, sound(4.0))[0], encode_sound(first, sound(4.0))[0])
