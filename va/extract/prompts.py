"""New text prototypes beside the features of a CLIP encoder: `va prompts FEATURES --texts FILE`.

With `--tower`, the text tower too, frozen, with which `va train --context` learns what stands before the texts.

The texts are outside the features' identity, so that no frame is encoded again; the text tower must be the one whose
image tower made the features, which the hash of the weights decides.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from va import bounded
from va.data import features, prototypes, texttower
from va.data.features import FeatureStore
from va.data.prototypes import Prototypes
from va.data.regions import TEMPLATES
from va.data.tuned import base_name, read_folder
from va.device import choose_device
from va.errors import VAError
from va.extract import encoders, tuned
from va.extract.config import ExtractConfig, PromptsConfig
from va.extract.encoders import Encoder


class Written(NamedTuple):
    """The files written beside the features, and the prototypes that lie there now."""

    files: tuple[Path, ...]
    prototypes: Prototypes


def run(config: PromptsConfig) -> Written:
    """Embed texts and write them as a store's prototypes, and its text tower if asked to; each whole or not at all.

    Args:
        config: The command's settings.

    Raises:
        VAError: A file cannot be used, the encoder has no text tower, or its weights are missing or others than
            those that made the features; the store is unchanged then.
    """
    texts, templates = read_texts(config.texts) if config.texts is not None else ((), ())
    if config.templates is not None:
        templates = read_lines(config.templates, what="templates")
    check_templates(templates)
    store = features.choose_store(config.features, kind="frames", name=config.encoder, option="--encoder")
    if store.identity.get("imported") or not encoders.has_text_tower(base_name(store.identity)):
        raise VAError(
            f"{store.directory}: '{store.encoder}' has no text tower", "Name a CLIP encoder's features with --encoder."
        )
    encoder = _encoder(store, config)
    if encoder.identity["weights"] != store.identity.get("weights"):
        raise VAError(
            f"{store.directory}: was made with weights {store.identity.get('weights')}, "
            f"those found for '{store.encoder}' are {encoder.identity['weights']}",
            "Give the weights that made the features to --clip-weights, or extract again.",
        )
    assert encoder.prototypes is not None and encoder.text_tower is not None  # every encoder with a text tower has both
    if texts or templates:
        texts = texts or prototypes.read(store.directory).texts
        templates = templates or TEMPLATES
        made = Prototypes(texts=texts, templates=templates, values=encoder.prototypes(texts, templates))
    else:
        made = prototypes.read(store.directory)
    written = []
    if config.tower:
        texttower.write(store.directory, encoder.text_tower(made.texts))
        written.append(store.directory / texttower.NAME)
    if texts:
        prototypes.write(store.directory, made)
        written.append(store.directory / prototypes.NAME)
    return Written(tuple(written), made)


def _encoder(store: FeatureStore, config: PromptsConfig) -> Encoder:
    settings = ExtractConfig(
        corpus=config.features, out=config.features, clip_weights=config.clip_weights, device=config.device
    )
    device = choose_device(config.device)
    if "tuned" not in store.identity:
        return encoders.build(store.encoder, config=settings, device=device)
    return tuned.load_from(
        [tuned.given(settings, "face"), read_folder(store.directory)],
        store.identity,
        kind="face",
        whose=store.directory,
        config=settings,
        device=device,
    )


def read_texts(file: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read region texts: one per line, or a TOML file with `texts` and perhaps `templates`.

    Args:
        file: UTF-8; `.toml` decides. Blank lines and surrounding white space do not count.

    Returns:
        Texts in the file's order, and templates; those are empty where the file has none.

    Raises:
        VAError: It cannot be read, holds no text, or has a key that is not known.
    """
    if file.suffix.lower() != ".toml":
        return read_lines(file, what="texts"), ()
    data = bounded.read_toml(file, option="--texts")
    unknown = sorted(set(data) - {"texts", "templates"})
    if unknown:
        raise VAError(f"{file}: has no setting named '{unknown[0]}'", "Known settings: texts, templates.")
    found = {key: _entries(data.get(key, []), key=key, file=file) for key in ("texts", "templates")}
    if not found["texts"]:
        raise VAError(f"{file}: holds no texts", 'Write texts = ["...", "..."], in region order.')
    return found["texts"], found["templates"]


def read_lines(file: Path, *, what: str) -> tuple[str, ...]:
    """Read the lines of a UTF-8 file that are not blank, without surrounding white space.

    Raises:
        VAError: It cannot be read or has none; `what` (`texts` or `templates`) is its option's name.
    """
    lines = tuple(line.strip() for line in _read(file, what=what).splitlines() if line.strip())
    if not lines:
        raise VAError(f"{file}: holds no {what}", f"Write one per line into the file given to --{what}.")
    return lines


def check_templates(templates: Sequence[str]) -> None:
    """Check that every template has one `{}` for the text and no other brace.

    Raises:
        VAError: One has not.
    """
    for template in templates:
        before, hole, after = template.partition("{}")
        if not hole or set(before + after) & set("{}"):
            raise VAError(
                f"template '{template}' does not have one place for the text",
                "Write {} once where the text goes, e.g. 'a face showing {}'.",
            )


def _entries(value: Any, *, key: str, file: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise VAError(f"{file}: '{key}' is not a list of texts", f'Write {key} = ["...", "..."].')
    return tuple(item.strip() for item in value if item.strip())


def _read(file: Path, *, what: str) -> str:
    try:
        return bounded.read_text(file, largest=bounded.LARGEST_TOML, encoding="utf-8-sig")
    except OSError as error:
        raise VAError(f"{file}: cannot be read ({error.strerror})", f"Check the path given to --{what}.") from None
    except UnicodeDecodeError as error:
        raise VAError(f"{file}: is not UTF-8 text ({error.reason})", "Save the file as UTF-8.") from None
    except ValueError as error:
        raise VAError(f"{file}: holds no {what} ({error})", f"Check the path given to --{what}.") from None
