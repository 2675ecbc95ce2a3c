"""What an ablation's page says about the paper's figures beside ours: all that differs, in words."""

from collections.abc import Mapping
from typing import Any, Final

Item = Mapping[str, Any]
"""A part of `results.json`, as `va/evaluate/ablation.py` writes it."""

_PAPER_ENCODERS: Final = ("clip-vit-b-32 and logmel", "clip-vit-b-16 and ast")
"""Of table 1's rows; the others use the last."""


def lead(results: Item) -> str:
    """Say in two sentences how to read the figures.

    Args:
        results: What `results.json` holds.
    """
    said = "The published figures are of Aff-Wild2. They are quoted, not verified here."
    if results["corpus"]["synthetic"]:
        return (
            f"{said} Ours are of synthetic clips: compare the order of the rows, never one of their figures with one "
            "of ours."
        )
    return f'{said} Read "What differs from the paper" below before comparing one of them with ours.'


def caveats(results: Item) -> list[tuple[str, str]]:
    """Say what differs from what the paper did, as term and text.

    Args:
        results: What `results.json` holds, at least its settings, rows, corpus and table.
    """
    settings, corpus = results["settings"], results["corpus"]
    drawn = ", of synthetic clips with known truth" if corpus["synthetic"] else ""
    repeats = (
        "a mean over seeds, with intervals" if len(settings["seeds"]) > 1 else "one seed's, with an interval over clips"
    )
    unsaid = " The paper does not say with which lambda this table was run; here it is 0.2."
    if results["table"] == 3:
        unsaid = ""
    found = [
        (
            "Data",
            "Theirs: Aff-Wild2, which its licence keeps with the labs that signed for it. "
            f"Ours: the corpus {corpus['name']}{drawn}.",
        ),
        (
            "Split and protocol",
            "The paper names neither. The first table follows the authors' release, which predicts once per window; "
            f"the second is the challenge's own score. Ours is the {results['split']} split.",
        ),
        ("Repeats", f"Theirs is one figure without an interval. Ours is {repeats}."),
        ("Encoders", _encoders(results)),
        ("Epoch", _selection(results)),
        ("Recipe", _recipe(settings)),
        (
            "Region term",
            "Here lambda, centres and sigma act on a layer that trains; in the release nothing that trains feels them "
            f"while CLIP is frozen.{unsaid}",
        ),
        (
            "Time",
            "Frames and sound lie on one grid of half seconds, the sound in time order; the release draws frames anew "
            "in each window and passes AST's tokens sorted by frequency.",
        ),
    ]
    if results["table"] == 1:
        found.append(("CNN on the log-mel", "The paper describes none. Ours is small and trains with the head."))
    if settings["context"]:
        found.append(
            (
                "Learned context",
                f"The paper's texts are fixed. In the row of that name {settings['context']} vectors before them are "
                "learned by the region term, as in CoOp; no other row has any.",
            )
        )
    if results["table"] == 2:
        found.append(("TCN", "The paper gives no shape. Ours is not causal, with 2 levels, kernel 3, dropout 0.1."))
    found.append(
        ("More", "What the paper publishes, what its authors' code shows and why we differ: va's docs/method.md.")
    )
    return found


def _encoders(results: Item) -> str:
    used = dict.fromkeys(" and ".join(row["encoders"]) for row in results["rows"])
    theirs = _PAPER_ENCODERS if results["table"] == 1 else _PAPER_ENCODERS[-1:]
    others = [pair for pair in used if pair not in theirs]
    if not others:
        return f"The paper's, from stored features: {', '.join(used)}."
    demo = " Demo encoders know only drawn faces and synthesised voices." if results["demo_encoders"] else ""
    return f"{', '.join(others)}: not the paper's, which are {', '.join(theirs)}.{demo}"


def _selection(results: Item) -> str:
    if results["selected_on"] == results["split"]:
        return (
            f"Chosen on {results['split']}, the split that is reported: the field's habit, needed to compare with the "
            "paper, but it flatters all figures."
        )
    said = (
        "dev, training identities held out by each seed"
        if results["selected_on"] == "dev"
        else f"{results['selected_on']}, which is not the split reported here"
    )
    return f"Chosen on {said}, by the ABAW protocol in both forms. The paper does not say on what."


def _recipe(settings: Item) -> str:
    own = [
        f"{settings[name]:g} {what} instead of {theirs:g}"
        for name, what, theirs in (("epochs", "epochs", 15), ("batch_size", "windows in a batch", 16))
        if settings[name] != theirs
    ]
    if settings["learning_rate"] != 1e-4:
        own.append(f"learning rate {settings['learning_rate']:g} instead of 0.0001")
    changed = f"The paper's but for {', '.join(own)}" if own else "The paper's"
    return f"{changed}; the encoders stay frozen, where the paper also names a learning rate for them."
