"""An Aff-Wild2 tree of twenty clips as years of copying leave it, and what has to be read from it.

Videos are hard links to a few files of 20 frames that are made once. Frame i of every annotation has valence i / 100
and arousal -i / 100.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support import make_video

RATE, FRAMES = 25, 20
FIFTH = "5th_ABAW_Annotations/VA_Estimation_Challenge"
SPELLINGS = ("3rd_ABAW/VA_Set/Train_Set", f"{FIFTH}/Training_Set", f"{FIFTH}/Validation_Set")
SPELLINGS += ("copied/va_challenge/train", "new/VA Estimation Challenge/Val", "NEW2/va_estimation_challenge/VALIDATION")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One clip of the tree, and what must become of it."""

    split: str
    media: str
    identity: str
    frames: int = FRAMES
    unlabelled: tuple[int, ...] = ()


EXPECTED = {
    "video1": Expected(split="train", media="batch1/video1.mp4", identity="video1"),
    "2-30-640x360": Expected(split="val", media="batch2/2-30-640x360.avi", identity="2-30-640x360"),
    "video3": Expected(split="train", media="new_vids/video3.MP4", identity="video3"),
    "video4": Expected(split="val", media="batch2/video4.AVI", identity="video4"),
    "video5_left": Expected(split="train", media="batch1/video5.mp4", identity="Ann"),
    "video5_right": Expected(split="train", media="batch1/video5.mp4", identity="Bob"),
    "video6_left": Expected(split="train", media="batch1/video6_left.mp4", identity="video6_left"),
    "video6_right": Expected(split="train", media="batch1/video6.mp4", identity="video6"),
    "the_right": Expected(split="val", media="batch2/the_right.mp4", identity="the_right"),
    "bom": Expected(split="train", media="batch1/bom.mp4", identity="bom"),
    "header": Expected(split="train", media="batch1/header.mp4", identity="header"),
    "fives": Expected(split="val", media="batch1/fives.mp4", identity="fives", unlabelled=(3, 4, 5)),
    "blank": Expected(split="train", media="batch1/blank.mp4", identity="blank"),
    "short": Expected(split="train", media="batch1/short.mp4", identity="short", frames=FRAMES - 4),
    "long": Expected(split="train", media="batch1/long.mp4", identity="long", frames=FRAMES + 3),
    "twice": Expected(split="train", media="batch1/twice.mp4", identity="twice"),
    "linked": Expected(split="train", media="batch1/linked.mp4", identity="linked"),
    "behind": Expected(split="val", media="elsewhere/behind.mp4", identity="behind"),
    "editions": Expected(split="train", media="batch1/editions.mp4", identity="editions"),
    "Case": Expected(split="val", media="any/depth/at all/case.mp4", identity="case"),
}
SKIPPED = {
    f"{FIFTH}/Training_Set/lonely_left.txt": "there is no video 'lonely'",
    f"{FIFTH}/Training_Set/damaged.txt": "batch1/damaged.mp4: cannot be decoded",
    f"{FIFTH}/Training_Set/cut.txt": "batch1/cut.mp4: ",
    f"{FIFTH}/Training_Set/wrong.txt": "line 3: 2.0 is outside [-1, 1] and not -5",
    f"{FIFTH}/Training_Set/empty.txt": "line 1: expected the header",
    f"{FIFTH}/Training_Set/editions.txt": "says the same as 3rd_ABAW/VA_Set/Train_Set/editions.txt",
    "batch1/gone.mp4": "is a link to nothing",
    "batch1/wrong.mp4": "has no annotation",  # none that could be read
    "batch2/twice.mp4": "is the same video as batch1/twice.mp4",
    "batch2/unlabelled.mp4": "has no annotation",
}


def annotation(frames: int = FRAMES, *, header: str = "valence,arousal", end: str = "\n", after: str = "") -> str:
    return end.join([header, *(f"{i / 100},{-i / 100}" for i in range(frames)), after])


def make_media(folder: Path) -> Path:
    """Make the few videos that all trees link to."""
    folder.mkdir(exist_ok=True)
    make_video(folder / "a.mp4", rate=RATE, seconds=FRAMES / RATE)
    make_video(folder / "b.mp4", rate=RATE, seconds=FRAMES / RATE, draw=lambda i: np.full((64, 64, 3), i, np.uint8))
    make_video(folder / "a.avi", rate=RATE, seconds=FRAMES / RATE, codec="mpeg4", b_frames=0)
    return folder


def place(media: Path, file: Path, *, other: bool = False) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    os.link(media / f"{'b' if other else 'a'}{file.suffix.lower()}", file)


def write(file: Path, text: str, *, encoding: str = "utf-8") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode(encoding))


def build(root: Path, media: Path) -> Path:
    """Write the tree; its folder of links lies beside it."""
    for folder in SPELLINGS:
        (root / folder).mkdir(parents=True)
    third, fifth, fifth_val, copied, new_val, upper_val = (root / folder for folder in SPELLINGS)
    texts = {
        third / "video1.txt": annotation(),
        fifth_val / "2-30-640x360.txt": annotation(),
        copied / "video3.txt": annotation(),
        new_val / "video4.txt": annotation(),
        fifth / "video5_left.txt": annotation(),
        fifth / "video5_right.txt": annotation(),
        fifth / "video6_left.txt": annotation(),
        fifth / "video6_right.txt": annotation(),
        upper_val / "the_right.txt": annotation(),
        fifth / "bom.txt": "\ufeff" + annotation(end="\r\n"),
        fifth / "header.txt": annotation(header='"Valence", Arousal '),
        fifth_val / "fives.txt": annotation()
        .replace("0.03,", "-5,")
        .replace("-0.04\n", "-5\n")
        .replace("0.05,-0.05", "-5.0,-5.000"),
        fifth / "blank.txt": annotation(after="\n  \n\n"),
        fifth / "short.txt": annotation(FRAMES - 4),
        fifth / "long.txt": annotation(FRAMES + 3),
        fifth / "twice.txt": annotation(),
        fifth / "linked.txt": annotation(),
        fifth_val / "behind.txt": annotation(),
        third / "editions.txt": annotation(),
        fifth / "editions.txt": annotation(end="\r\n"),
        fifth_val / "Case.TXT": annotation(),
        fifth / "lonely_left.txt": annotation(),
        fifth / "damaged.txt": annotation(),
        fifth / "cut.txt": annotation(),
        fifth / "wrong.txt": "valence,arousal\n0,0\n2,0\n",
        fifth / "empty.txt": "",
        # What is no annotation of this challenge.
        fifth / "._video1.txt": "binary",
        root / "__MACOSX" / FIFTH / "Training_Set" / "video1.txt": "binary",
        root / "5th_ABAW_Annotations/EXPR_Classification_Challenge/Train_Set/video1.txt": "Neutral,Anger\n0\n",
        root / "readme.txt": "valence,arousal",
        root / "cropped_aligned/video1/00001.jpg": "",
        root / "identities.csv": "\ufeffname,identity\r\nvideo5_left,Ann\r\nvideo5_right,Bob\r\n",
    }
    for file, text in texts.items():
        write(file, text)
    for name in ("video1", "video5", "bom", "header", "fives", "blank", "short", "long", "twice", "editions", "wrong"):
        place(media, root / f"batch1/{name}.mp4")
    place(media, root / "batch1/video6.mp4")
    place(media, root / "batch1/video6_left.mp4", other=True)
    for file in ("2-30-640x360.avi", "video4.AVI", "the_right.mp4", "twice.mp4", "unlabelled.mp4"):
        place(media, root / "batch2" / file)
    place(media, root / "new_vids/video3.MP4")
    place(media, root / "any/depth/at all/case.mp4")
    write(root / "batch1/damaged.mp4", "no pictures")
    (root / "batch1/cut.mp4").write_bytes((media / "a.mp4").read_bytes()[:-200])
    outside = root.with_name(f"{root.name} outside")
    place(media, outside / "stored.mp4")
    place(media, outside / "folder/behind.mp4")
    (root / "batch1/linked.mp4").symlink_to(outside / "stored.mp4")
    (root / "batch1/gone.mp4").symlink_to(outside / "nothing.mp4")
    (root / "elsewhere").symlink_to(outside / "folder")
    (outside / "folder/again").symlink_to(root)
    return root
