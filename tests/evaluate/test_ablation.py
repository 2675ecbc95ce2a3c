"""An ablation's figures, its comparisons over seeds and clips, its page and its command."""

import copy
import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import audmetric
import numpy as np
import pytest
import scipy.stats
from hostile import leaks
from small_corpus import Small

from va import cli
from va.device import choose_device
from va.errors import VAError
from va.evaluate import ablation, intervals, opening, predict, row_scores, score
from va.evaluate.config import EvaluateConfig
from va.evaluate.pages import ablation_page, sentences
from va.evaluate.pages.table_parts import between
from va.train import planning, runs
from va.train.config import TrainConfig

SEEDS = (0, 1, 2)
RESAMPLES = 60
HOSTILE = "</td><script>alert(1)</script>\"'&{{lead}}"
PUBLISHED = {"ccc_valence": 0.4655, "ccc_arousal": 0.6068, "ccc_mean": 0.5361}
ROWS: dict[str, dict[str, Any]] = {"face": {"modalities": "face"}, "full": {}}


@pytest.fixture(scope="module")
def trained(small: Small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Two rows as `va/train/ablate.py` describes them, trained small."""
    out = tmp_path_factory.mktemp("ablation")
    rows = []
    for name, changes in ROWS.items():
        row: dict[str, Any] = {"name": name, "note": "", "encoders": ["eye", "ear"], "runs": {}}
        for form in ("end", "frames"):
            trials = [small.config(out / "runs", target=form, epochs=3, seed=seed, **changes) for seed in SEEDS]
            found = runs.train(trials, epoch_done=lambda config, line: None)
            names = [directory.relative_to(out).as_posix() for directory in found]
            row["runs"][form] = [{"seed": seed, "run": run} for seed, run in zip(SEEDS, names, strict=True)]
        rows.append({**row, "reference": name == "full", "published": PUBLISHED if name == "full" else None})
    settings = {
        "split": "val",
        "select_on": "dev",
        "seeds": list(SEEDS),
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 5e-3,
        "context": 0,
    }
    return out, {"table": 2, "rows": rows, "failed": [], "not_run": [], "settings": settings}


def run(out: Path, plan: dict[str, Any], small: Small) -> dict[str, Any]:
    return ablation.run(
        plan,
        out=out,
        corpus=small.corpus,
        features_root=small.features,
        split="val",
        resamples=RESAMPLES,
        device="cpu",
        progress=lambda done, total, what: None,
    )


@pytest.fixture(scope="module")
def results(trained: tuple[Path, dict[str, Any]], small: Small) -> dict[str, Any]:
    out, plan = trained
    return run(out, plan, small)


def row_of(results: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in results["rows"] if row["name"] == name)
    return found


def student(values: Sequence[float]) -> tuple[float, float]:
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values))
    return max(low, -2), min(high, 2)


def test_every_text_stays_text(results: dict[str, Any]) -> None:
    found, shown = leaks(results, ablation_page.render)
    assert (found, shown >= 4) == ([], True)


def test_few_clips_are_told_beside_the_tables_and_on_the_page(results: dict[str, Any]) -> None:
    assert row_scores.few_clips(results) == "" and "Only 2 clips" not in ablation_page.render(results)
    few = copy.deepcopy(results)
    for row in few["rows"]:
        for form in row["forms"].values():
            for trial in form["trials"]:
                trial["abaw"]["num_clips"] = trial["paper"]["num_clips"] = 2
    assert row_scores.few_clips(few) == sentences.few_clips(2) != ""
    assert ablation_page.render(few).count(sentences.few_clips(2)) == 2, "in both forms"


# --- figures


def test_a_trial_has_the_figures_of_va_evaluate(
    results: dict[str, Any], trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out, _ = trained
    for form in ("end", "frames"):
        trial = row_of(results, "full")["forms"][form]["trials"][1]
        config = EvaluateConfig(run=out / trial["run"], out=tmp_path / form, device="cpu", resamples=5)
        figures = score.run(config, progress=lambda done, total, what: None)
        for protocol in ("abaw", "paper"):
            expected = figures["rows"][0][protocol]
            assert trial[protocol]["num_frames"] == expected["num_frames"]
            for name in ("ccc_valence", "ccc_arousal", "ccc_mean"):
                assert trial[protocol][name]["value"] == expected[name]["value"]


def test_a_row_is_the_mean_over_seeds_with_students_interval(results: dict[str, Any]) -> None:
    for row in results["rows"]:
        for found in row["forms"].values():
            for protocol in ("abaw", "paper"):
                for name in ("ccc_valence", "ccc_arousal", "ccc_mean"):
                    values = [trial[protocol][name]["value"] for trial in found["trials"]]
                    figure = found[protocol][name]
                    assert len(values) == 3
                    assert figure["value"] == pytest.approx(np.mean(values))
                    low, high = student(values)
                    assert figure["over_seeds"] == pytest.approx((max(low, -1), min(high, 1)), abs=1e-6)


def test_the_interval_over_clips_resamples_clips_and_keeps_seeds(
    results: dict[str, Any], trained: tuple[Path, dict[str, Any]], small: Small
) -> None:
    """Against joining the drawn clips' frames and another implementation of the CCC."""
    out, _ = trained
    row = row_of(results, "full")["forms"]["frames"]
    other = row_of(results, "face")["forms"]["frames"]

    def resampled(trials: list[dict[str, Any]]) -> np.ndarray:
        means = []
        for trial in trials:
            run, inputs, clips = opening.open_split(
                out / trial["run"], split="val", corpus=small.corpus, features_root=small.features
            )
            cpu = choose_device("cpu")
            predictions = predict.predict_clips(run, inputs, clips, device=cpu, fill="interpolate", label_shift_s=0.0)
            clips = predictions.frames
            counts = intervals.resample_counts(num_clips=len(clips), resamples=RESAMPLES, seed=0).astype(int)
            own = []
            for drawn in counts:
                chosen = [clip for clip, times in zip(clips, drawn, strict=True) for _ in range(times)]
                target = np.concatenate([clip.target[clip.valid] for clip in chosen])
                found = np.concatenate([clip.prediction[clip.valid] for clip in chosen])
                own.append(np.mean([audmetric.concordance_cc(target[:, k], found[:, k]) for k in range(2)]))
            means.append(own)
        return np.mean(means, axis=0)

    ours, theirs = resampled(row["trials"]), resampled(other["trials"])
    # The expanded percentile interval (va/evaluate/intervals.py), by SciPy.
    clips = row["trials"][0]["abaw"]["num_clips"]
    deviations = np.sqrt(clips / (clips - 1)) * scipy.stats.t.ppf(0.975, clips - 1)
    percent = 100 * scipy.stats.norm.cdf([-deviations, deviations])
    assert row["abaw"]["ccc_mean"]["over_clips"] == pytest.approx(np.percentile(ours, percent), abs=1e-6)
    difference = next(one for one in results["differences"] if one["target"] == "frames")
    expected = np.percentile(ours - theirs, percent)
    assert difference["difference"]["over_clips"] == pytest.approx(expected, abs=1e-6)


def test_differences_are_paired_by_seed_and_of_the_forms_protocol(results: dict[str, Any]) -> None:
    assert [(one["row"], one["minus"], one["target"], one["protocol"]) for one in results["differences"]] == [
        ("full", "face", "end", "paper"),
        ("full", "face", "frames", "abaw"),
    ]
    for one in results["differences"]:
        full, face = (
            [
                trial[one["protocol"]]["ccc_mean"]["value"]
                for trial in row_of(results, name)["forms"][one["target"]]["trials"]
            ]
            for name in ("full", "face")
        )
        values = [a - b for a, b in zip(full, face, strict=True)]
        assert list(one["by_seed"]) == ["0", "1", "2"]
        assert list(one["by_seed"].values()) == pytest.approx(values)
        assert one["difference"]["value"] == pytest.approx(np.mean(values))
        assert one["difference"]["over_seeds"] == pytest.approx(student(values), abs=1e-6)


def test_a_row_does_not_differ_from_itself(trained: tuple[Path, dict[str, Any]], small: Small) -> None:
    out, plan = trained
    twin = {**plan["rows"][1], "name": "twin", "reference": False}
    found = run(out, {**plan, "rows": [plan["rows"][1], twin]}, small)
    for one in found["differences"]:
        assert one["difference"] == {"value": 0.0, "over_seeds": [0.0, 0.0], "over_clips": [0.0, 0.0]}


def test_files_hold_what_is_returned_as_strict_json(trained: tuple[Path, dict[str, Any]], small: Small) -> None:
    out, plan = trained
    found = run(out, plan, small)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads((out / "results.json").read_text(), parse_constant=refuse) == found
    assert (out / "index.html").read_text() == ablation_page.render(found)


# --- what is missing


def without(plan: dict[str, Any], *, row: str, form: str, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Let some trials of a plan fail."""
    changed = copy.deepcopy(plan)
    own = next(one for one in changed["rows"] if one["name"] == row)
    for trial in [trial for trial in own["runs"][form] if trial["seed"] in seeds]:
        own["runs"][form].remove(trial)
        changed["failed"].append({**trial, "row": row, "target": form, "message": "no luck", "fix": "Try again."})
    return changed


def test_a_difference_uses_the_seeds_that_both_rows_have(
    results: dict[str, Any], trained: tuple[Path, dict[str, Any]], small: Small
) -> None:
    out, plan = trained
    changed = without(without(plan, row="face", form="end", seeds=(0,)), row="full", form="frames", seeds=(0, 1))
    found = run(out, changed, small)
    end, frames = found["differences"]
    assert list(end["by_seed"]) == ["1", "2"]
    assert end["by_seed"]["2"] == pytest.approx(results["differences"][0]["by_seed"]["2"])
    assert list(frames["by_seed"]) == ["2"]
    assert frames["difference"]["over_seeds"] is None
    assert frames["difference"]["over_clips"] is not None
    assert row_of(found, "full")["forms"]["frames"]["abaw"]["ccc_mean"]["over_seeds"] is None
    page = Page((out / "index.html").read_text()).text()
    assert "(2 of 3 seeds)" in page
    assert "(1 of 3 seeds)" in page
    assert "3 trials failed and are in no figure" in page
    with pytest.raises(VAError, match=r"3 of 12 trials failed, first runs/.*no luck") as raised:
        ablation.require_all(found)
    assert raised.value.hint == "Try again."


def test_a_row_without_any_trial_has_no_figure(trained: tuple[Path, dict[str, Any]], small: Small) -> None:
    out, plan = trained
    found = run(out, without(plan, row="full", form="end", seeds=SEEDS), small)
    assert row_of(found, "full")["forms"]["end"]["paper"]["ccc_mean"]["value"] is None
    assert [one["target"] for one in found["differences"]] == ["frames"]
    (_, _, end), (_, _, frames) = ablation.tables(found)
    assert end[1][2:] == ("n/a", "n/a", "n/a", "n/a")
    assert "n/a" not in frames[1]


def test_an_undefined_ccc_is_no_figure_and_no_crash() -> None:
    assert math.isnan(row_scores.figure_of([0.5, math.nan], [np.zeros(3)] * 2, num_clips=8, limit=1)["value"])
    one_clip = row_scores.figure_of([0.5, 0.6], [np.full(3, math.nan)] * 2, num_clips=8, limit=1)
    assert one_clip["over_clips"] is None
    assert one_clip["over_seeds"] is not None


def test_a_table_without_a_defined_ccc_still_has_a_page(results: dict[str, Any]) -> None:
    """Clips shorter than a window have no window end that the paper protocol scores."""
    changed = copy.deepcopy(results)
    for row in changed["rows"]:
        for trial in row["forms"]["end"]["trials"]:
            trial["paper"]["ccc_mean"]["value"] = None
    changed["differences"][0]["by_seed"] = dict.fromkeys(changed["differences"][0]["by_seed"])
    page = Page(ablation_page.render(changed)).text()
    assert "n/a, n/a, n/a" in page
    assert "paper n/a" in page


# --- page


class Page(HTMLParser):
    """Tags in balance, elements with their attributes, and the text that is seen."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.seen.append(data)

    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.seen))


def test_the_page_says_what_is_theirs_and_what_is_ours(results: dict[str, Any]) -> None:
    page = Page(ablation_page.render(results)).text()
    assert "of Aff-Wild2. They are quoted, not verified here." in page
    assert page.count("0.4655 0.6068 0.5361") == 2
    assert page.count("not in the paper") == 2
    assert "eye and ear: not the paper's, which are clip-vit-b-16 and ast" in page
    assert "3 epochs instead of 15, learning rate 0.005 instead of 0.0001" in page
    assert "Chosen on dev" in page
    assert "Demo encoders" not in page
    for form in ("end", "frames"):
        figure = row_of(results, "face")["forms"][form][ablation_page.HEADLINE[form]]["ccc_arousal"]
        assert ablation_page.number(figure["value"]) in page
        assert between(figure["over_seeds"]) in page


def test_what_else_must_be_said_is_said(results: dict[str, Any]) -> None:
    changed = copy.deepcopy(results) | {"selected_on": "val", "demo_encoders": True, "table": 1}
    changed["not_run"] = [{"name": "ViT-B/16 and AST", **PUBLISHED}]
    changed["corpus"]["synthetic"] = False
    page = Page(ablation_page.render(changed)).text()
    assert "Chosen on val, the split that is reported: the field's habit" in page
    assert sentences.DEMO_ON_REAL in page and "Demo encoders on a synthetic corpus" not in page
    assert page.count("ViT-B/16 and AST 0.4655 0.6068 0.5361 not run here") == 2
    assert "synthetic clips" not in page
    changed["corpus"]["synthetic"] = True
    assert sentences.DEMO_ON_DRAWN in Page(ablation_page.render(changed)).text()
    for row in changed["rows"]:
        row["encoders"] = ["clip-vit-b-16", "ast"]
    assert "The paper's, from stored features: clip-vit-b-16 and ast." in Page(ablation_page.render(changed)).text()


def test_names_stay_text_and_nothing_is_loaded_or_run(results: dict[str, Any]) -> None:
    changed = copy.deepcopy(results)
    changed["corpus"] |= {"name": HOSTILE}
    changed["features"] = [HOSTILE]
    changed["failed"] = [dict.fromkeys(("row", "target", "seed", "run", "message", "fix"), HOSTILE)]
    for row in changed["rows"]:
        row |= {"name": HOSTILE + row["name"], "note": HOSTILE, "encoders": [HOSTILE, HOSTILE]}
    for one in changed["differences"]:
        one |= {"row": HOSTILE + one["row"], "minus": HOSTILE + one["minus"]}
    page = Page(ablation_page.render(changed))
    assert HOSTILE in page.text()
    assert not [tag for tag, _ in page.elements if tag in ("script", "img", "iframe", "object")]
    links = [values[name] for _, values in page.elements for name in ("src", "href") if name in values]
    assert links == ["data:,"]
    (policy,) = [values["content"] or "" for _, values in page.elements if "http-equiv" in values]
    assert "default-src 'none'" in policy
    assert "sha256" not in policy


# --- command


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that train in no time; of those, trials with seed 7 fail."""
    train, plan = runs.train, planning.plan

    def narrowed(trials: Sequence[TrainConfig]) -> list[TrainConfig]:
        return [replace(trial, width=16, num_heads=2) for trial in trials]

    def some(trials: Sequence[TrainConfig], *, epoch_done: runs.EpochDone) -> list[Path]:
        found = train([trial for trial in narrowed(trials) if trial.seed != 7], epoch_done=epoch_done)
        failed = [trial for trial in narrowed(trials) if trial.seed == 7]
        if failed:
            failures = {one.directory: VAError("no luck", "Try again.") for one in plan(failed)}
            raise runs.TrialsFailed(failures, of=len(trials))
        return found

    monkeypatch.setattr(runs, "train", some)
    monkeypatch.setattr(planning, "plan", lambda trials: plan(narrowed(trials)))


def va(*arguments: str | Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["va", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def command(small: Small, out: Path, *more: str) -> list[str | Path]:
    quick = ["--epochs", "1", "--resamples", "20", "--device", "cpu", "--out", out]
    return ["ablate", small.corpus, small.features, "--table", "3", *quick, *more]


def test_the_command_prints_the_tables_and_the_page_last(
    small: Small, tmp_path: Path, narrow: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert va(*command(small, tmp_path, "--seeds", "0,1"), monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == str(tmp_path / "index.html")
    for words in ("target end, paper protocol", "target frames, abaw protocol", "No region term", "0.4795", "ours"):
        assert words in printed
    assert va(*command(small, tmp_path, "--seeds", "0,1", "--json"), monkeypatch=monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["rows"]] == [
        "±1, sigma 0.6",
        "±0.66, sigma 0.45",
        "No region term",
    ]
    assert found["rows"][1]["reference"]
    for name in ("results.json", "index.html"):
        written = (tmp_path / name).read_text()
        assert found["corpus"]["digest"] in written
        assert not [path for path in (tmp_path, small.corpus, small.features) if str(path) in written], name


def test_failed_trials_end_the_command_in_two_lines_after_the_others_report(
    small: Small, tmp_path: Path, narrow: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert va(*command(small, tmp_path, "--seeds", "0,7"), monkeypatch=monkeypatch) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == str(tmp_path / "index.html")
    assert len([line for line in said.err.splitlines() if line.startswith("failed: runs/")]) == 6
    error, fix = [line for line in said.err.splitlines() if line.startswith(("error:", "fix:"))]
    assert "6 of 12 trials failed" in error
    assert fix == "fix: Try again."
    assert len(json.loads((tmp_path / "results.json").read_text())["failed"]) == 6
