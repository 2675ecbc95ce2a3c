"""The model card of a shared head: only what the run and its report say, in the form that the hub reads."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from va.data.tuned import FOLDER, base_name

NAMES: Final = ("ccc_valence", "ccc_arousal", "ccc_mean")
_WORDS: Final = {"ccc_valence": "CCC valence", "ccc_arousal": "CCC arousal", "ccc_mean": "CCC mean"}
_TAGS: Final = ("valence-arousal", "affective-computing", "emotion-recognition", "video", "audio")
_RECIPE: Final = (
    "modalities",
    "target",
    "temporal",
    "fusion",
    "width",
    "window_s",
    "stride_s",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "schedule",
    "patience",
    "region_weight",
    "centers",
    "centers_arousal",
    "sigma",
    "context",
    "standardise",
    "seed",
    "seeds",
    "folds",
)

Item = Mapping[str, Any]


def write(
    info: Item,
    *,
    counts: Mapping[str, int],
    repo_id: str,
    license_name: str,
    report: Item | None,
    verified: bool,
    encoder_bytes: int,
) -> str:
    """Write the card.

    Args:
        info: A shareable `run.json`.
        counts: Clips trained on ("train") and selected on ("selection").
        repo_id: Where the head will be.
        license_name: License of the weights, or empty.
        report: `metrics.json` of this run, or None; figures then stay out.
        verified: The user states that the figures were verified on Aff-Wild2.
        encoder_bytes: Size of the fine-tuned encoders that go with the head; 0 where there are none.

    Returns:
        Markdown with the hub's metadata before it.
    """
    sections = [
        ("", _lead(info)),
        ("How to use it", _usage(info, repo_id)),
        ("Encoders", _encoders(info, encoder_bytes)),
        ("Recipe", _recipe(info)),
        ("Region texts", _regions(info)),
        ("Trained and selected on", _selection(info, counts)),
        ("Scores", _scores(report)),
        ("Limits", _limits(info, verified=verified)),
    ]
    title = f"# {_text(repo_id.split('/')[1])}: valence and arousal over time"
    body = "\n\n".join(f"## {name}\n\n{said}" if name else said for name, said in sections)
    return f"---\n{_metadata(repo_id, license_name, report)}---\n\n{title}\n\n{body}\n"


def _metadata(repo_id: str, license_name: str, report: Item | None) -> str:
    # JSON is YAML, so that no name of a corpus can break the header or add a key to it.
    lines = ["library_name: va", f"tags: {json.dumps(list(_TAGS))}"]
    if license_name:
        lines.insert(0, f"license: {json.dumps(license_name)}")
    if report is not None:
        score = report["rows"][0]["abaw"]
        results = {
            "task": {"type": "valence-arousal-estimation", "name": "Valence and arousal over time"},
            "dataset": {"type": "other", "name": report["corpus"], "split": report["split"]},
            "metrics": [
                {"type": name, "name": f"{_WORDS[name]} (ABAW protocol)", "value": score[name]["value"]}
                for name in NAMES
                if score[name]["value"] is not None
            ],
        }
        lines.append(f"model-index: {json.dumps([{'name': repo_id.split('/')[1], 'results': [results]}])}")
    return "\n".join(lines) + "\n"


def _lead(info: Item) -> str:
    seen = {"both": "the face on video and the sound beside it", "face": "the face on video", "voice": "sound"}
    members = len(info["members"])
    ensemble = f" It is the mean of {members} heads." if members else ""
    demo = ""
    if info["demo_encoders"]:
        demo = (
            "\n\n**Demo encoders.** It was trained on features of demo encoders, which know only drawn faces and "
            "synthesised voices. It says nothing about real people."
        )
    return (
        f"A head that estimates valence and arousal, each from -1 to 1, every half second from "
        f"{seen[info['config']['modalities']]}, on features of {_kind_of_encoders(info)}.{ensemble} Made with `va` "
        f"{_text(info['versions']['va'])}, which follows Jung, Park and Lim, *Distance-aware Soft Prompt Learning for "
        f"Multimodal Valence-Arousal Estimation* (2026).{demo}"
    )


def _kind_of_encoders(info: Item) -> str:
    """Say whether they are as they were published."""
    learned = [name for kind, name in (("face", "the frames'"), ("voice", "the sound's")) if _is_tuned(info, kind)]
    if not learned:
        return "frozen encoders"
    if len(learned) == 2:
        return "encoders that were fine-tuned, and that are here beside it"
    return f"encoders of which {learned[0]} was fine-tuned, and is here beside it"


def _is_tuned(info: Item, kind: str) -> bool:
    return "tuned" in info["encoders"][kind]


def _usage(info: Item, repo_id: str) -> str:
    del info
    return (
        "```python\nimport va\n"
        f'run = va.from_pretrained("{repo_id}")\n'
        'answer = run.predict("video.mp4")  # answer.valence and answer.arousal, one per half second\n```\n\n'
        "With the video on the command line instead, once the files of this repository are in a folder:\n\n"
        f"```\nhf download {repo_id} --local-dir head\nva predict head video.mp4 --out predictions\n```"
    )


def _encoders(info: Item, encoder_bytes: int) -> str:
    lines = []
    for kind, name in (("face", "Frames"), ("voice", "Sound")):
        identity = info["encoders"][kind]
        weights = identity.get("weights", "not known")
        lines.append(
            f"- {name}: `{_code(identity['encoder'])}`, {identity['dim']} features per step, weights "
            f"`{_code(weights)}` (hash), identity `{_code(info['identity'][kind])}`. {_history(identity, kind)}"
        )
    size = f"\n\nThe fine-tuned weights take {encoder_bytes / 1e6:.1f} MB." if encoder_bytes else ""
    return "\n".join(lines) + f"{size}\n\nOther weights give other features: `va` refuses them by these identities."


def _history(identity: Item, kind: str) -> str:
    if "tuned" not in identity:
        return _origin(identity, str(identity["encoder"]))
    about = identity["tuned"]
    base = base_name(identity)
    return (
        f"Fine-tuned from `{_code(base)}` (weights `{_code(about['base_weights'])}`) in the run "
        f"`{_code(about['run'])}`; its weights are in `{FOLDER}/{kind}`. The base: {_origin(identity, base)}"
    )


def _origin(identity: Item, name: str) -> str:
    if identity.get("imported"):
        return "Its features were made outside `va` and imported: no encoder here makes them for a new video."
    if identity.get("demo"):
        return "A demo encoder that ships with `va`."
    if identity.get("baseline") or name == "logmel":
        return "It has no weights."
    if name.startswith("hf:"):
        return f"Weights from the hub, `{_code(name.removeprefix('hf:'))}`."
    if name.startswith("open_clip:"):
        return f"Weights that open_clip publishes as `{_code(name.removeprefix('open_clip:'))}`."
    from va.weights import HUB_FILES

    found = [file.repository for file in HUB_FILES if file.encoder == name]
    return f"Weights from the hub, `{found[0]}`." if found else "Where its weights come from is not recorded."


def _recipe(info: Item) -> str:
    config = info["config"]
    rows = [(name, _value(config[name])) for name in _RECIPE if name in config and config[name] not in ([], "")]
    rows += [(name, _value(value)) for name, value in info.get("finetune", {}).items()]
    return _table(("setting", "value"), rows) + (
        "\n\nCentres and sigma are the grid of the soft region labels, in valence/arousal units."
    )


def _regions(info: Item) -> str:
    if not info["config"]["region_weight"]:
        return "None: trained without the region term."
    borrowed = info.get("prototypes", {})
    whose = f"\n\nEmbedded by `{_code(borrowed['source'])}`." if borrowed.get("borrowed") else ""
    count = info["config"].get("context", 0)
    vectors = "learned vector" if count == 1 else "learned vectors"
    learned = (
        f"Each stands after {count} {vectors}, trained with the head (CoOp): the texts alone do not give its "
        "prototypes.\n\n"
        if count
        else ""
    )
    texts = "\n".join(f"{place}. {_text(text)}" for place, text in enumerate(info["region_texts"]))
    return learned + texts + whose


def _selection(info: Item, counts: Mapping[str, int]) -> str:
    chosen, corpus = info["selection"], info["corpus"]
    epoch = chosen["epoch"]
    drawn = ", synthetic clips with known truth" if corpus["synthetic"] else ""
    which = f"epochs {', '.join(map(str, epoch))}" if isinstance(epoch, list) else f"epoch {epoch}"
    habit = (
        " `val` is the field's habit for selection; figures on the same split are flattered by it."
        if chosen["split"] == "val"
        else ""
    )
    between = " between its members" if info["members"] else ""
    return (
        f"Corpus: {_text(corpus['name'])}{drawn}; {counts['train']} training clips{between}. Chosen: {which}, on "
        f"{_text(chosen['split'])} ({counts['selection']} clips{between}) with mean CCC {chosen['ccc_mean']:.3f} "
        f"there. That score chose the epoch, so it is no estimate of what to expect.{habit} Names of clips are "
        "not shared."
    )


def _scores(report: Item | None) -> str:
    if report is None:
        return "None stated: this head was shared without a report."
    score = report["rows"][0]["abaw"]
    rows = [
        (
            _WORDS[name],
            _number(score[name]["value"]),
            f"{_number(score[name]['low'])} to {_number(score[name]['high'])}",
        )
        for name in NAMES
    ]
    warned = "".join(f"\n\n{_text(sentence)}" for sentence in report.get("warnings", ()))
    return (
        f"On the {_text(report['split'])} split of {_text(report['corpus'])}, by the ABAW protocol (every validly "
        f"labelled frame; {score['num_frames']:,} frames of {score['num_clips']:,} clips, coverage "
        f"{_share(score['coverage'])}):\n\n"
        f"{_table(('figure', 'value', '95% interval over clips'), rows)}{warned}"
    )


def _limits(info: Item, *, verified: bool) -> str:
    affwild = (
        "Whoever shared this head states that its scores were verified on Aff-Wild2; `va` cannot check that."
        if verified
        else "Nothing here was verified on Aff-Wild2."
    )
    demo = " Features of demo encoders say nothing about real faces and voices." if info["demo_encoders"] else ""
    return (
        f"{affwild}{demo}\n\nIt estimates how annotators would rate an expression, not what a person feels, and it may "
        "do worse for people, cultures, ages, languages and recordings that its corpus and its encoders saw little of. "
        "Do not use it to judge, select, watch or diagnose people."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else _text(str(value))


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.1%}"


def _text(text: object) -> str:
    """Make a name that anyone may have chosen plain Markdown text on one line."""
    line = " ".join(str(text).split())
    for mark in "\\`*_[]|#":
        line = line.replace(mark, f"\\{mark}")
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: object) -> str:
    return " ".join(str(text).split()).replace("`", "'").replace("|", "/")
