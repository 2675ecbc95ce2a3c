"""Heads shared through a hub: what is sent, what is never sent, what is fetched, and what is said when it fails."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_hub
import numpy as np
import pytest
import torch
import yaml
from fake_hub import Hub
from hostile import leaks
from huggingface_hub import HfApi
from small_corpus import Small, small

import va
from va import cli, files, hub, hub_card, hub_pack
from va.errors import VAError
from va.evaluate import opening, score, summary
from va.evaluate.config import EvaluateConfig
from va.train import checkpoint, ensemble, planning, runs

__all__ = ["small"]
HOSTILE = 'corpus"\n---\n# <script>alert(1)</script> | `x`'


@pytest.fixture(scope="module")
def run(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small.config(tmp_path_factory.mktemp("runs"), epochs=1)
    (directory,) = runs.train([config], epoch_done=lambda trial, line: None)
    return directory


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
    with fake_hub.running() as found:
        yield found


def pack(run: Path, **changes: Any) -> hub_pack.Packed:
    settings = {"repo_id": "me/head", "license_name": "", "metrics": None, "verified": False, **changes}
    return hub_pack.pack(run, **settings)


def push(packed: hub_pack.Packed, server: Hub, **changes: Any) -> str:
    settings = {"repo_id": "me/head", "private": False, "revision": "", "message": "A head", **changes}
    return hub.push(packed, **settings, endpoint=server.address)


def same_weights(one: Path, other: Path) -> None:
    left, right = (checkpoint.load_run(folder).head.state_dict() for folder in (one, other))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


# --- what is shared


def test_nothing_of_the_machine_or_the_clips_is_uploaded(run: Path, small: Small) -> None:
    """Neither a path, however it is spelled, nor a clip's name, in any of the files."""
    packed = pack(run)
    assert sorted(packed.contents) == ["README.md", "model.safetensors", "run.json"]
    info = json.loads((run / "run.json").read_text())
    clips = [*info["train_clips"], *info["selection"]["clips"]]
    assert clips and str(small.corpus).startswith("/")
    private = {*clips, str(small.corpus), str(small.features), str(run.parent), str(Path.home()), os.uname().nodename}
    for name, content in packed.contents.items():
        for word in private:
            assert word.encode() not in content, (name, word)
    shared = json.loads(packed.contents["run.json"])
    texts = [text for _, text in hub_pack._texts(shared, "")]
    assert texts and not [text for text in texts if re.search(r"(^|\s)/", text)]
    assert "device" not in shared
    assert (shared["config"]["device"], shared["config"]["tensorboard"]) == ("auto", False)


@pytest.mark.parametrize(
    "path", ["hf:/home/me/weights", "/data/x", "C:\\weights\\x", "~/weights", "file:///x", "see (/srv/models/x)"]
)
def test_a_path_in_any_text_is_refused(path: str, run: Path, tmp_path: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    info["encoders"]["face"]["encoder"] = path
    changed = tmp_path / "run"
    changed.mkdir()
    (changed / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    files.write_json(changed / "run.json", info)
    with pytest.raises(VAError, match=r"encoders\.face\.encoder names a path") as raised:
        pack(changed)
    assert "hf:owner/name" in raised.value.hint


@pytest.mark.parametrize(
    "text", ["open_clip:ViT-B-32/laion2b", "hf:owner/name", "valence/arousal", "ratio 3 / 4", "a: b"]
)
def test_what_is_no_path_is_not_taken_for_one(text: str) -> None:
    hub_pack._refuse_paths({"name": text})


def test_a_run_without_its_paths_loads_and_predicts_as_before(run: Path, small: Small, tmp_path: Path) -> None:
    packed = pack(run)
    for name, content in packed.contents.items():
        (tmp_path / name).write_bytes(content)
    same_weights(tmp_path, run)
    bare = json.loads((tmp_path / "run.json").read_text())
    for name in ("corpus", "features", "out"):
        del bare["config"][name]
    files.write_json(tmp_path / "run.json", bare)
    loaded = checkpoint.load_run(tmp_path)
    trained = checkpoint.load_run(run).config
    places = {name: getattr(loaded.config, name) for name in ("corpus", "features", "out", "device")}
    assert replace(trained, **places) == loaded.config
    with pytest.raises(VAError, match="shared without its corpus"):
        opening.open_inputs(loaded, corpus=None, features_root=None)
    again = opening.open_inputs(loaded, corpus=small.corpus, features_root=small.features)
    assert again.face.digest == loaded.info["identity"]["face"]


def test_an_ensemble_is_shared_like_a_run(small: Small, tmp_path: Path, server: Hub) -> None:
    config = small.config(tmp_path / "runs", epochs=1, seeds=(0, 1), ensemble=True)
    members = runs.train(planning.expand(config), epoch_done=lambda trial, line: None)
    joined = ensemble.join(config, members)
    packed = pack(joined)
    assert "mean of 2 heads" in packed.contents["README.md"].decode()
    push(packed, server)
    found = hub.fetch("me/head", cache_dir=tmp_path / "cache", endpoint=server.address)
    assert checkpoint.load_run(found).members == 2
    same_weights(found, joined)


@pytest.mark.parametrize("missing", ["run.json", "model.safetensors"])
def test_what_is_no_finished_run_is_refused(missing: str, run: Path, tmp_path: Path) -> None:
    for name in {"run.json", "model.safetensors"} - {missing}:
        (tmp_path / name).write_bytes((run / name).read_bytes())
    with pytest.raises(VAError, match=re.escape(str(tmp_path / missing))):
        pack(tmp_path)


@pytest.mark.parametrize("name", ["head", "../x", "me/../x", "me/", "/me/head", "https://hub/me/head", "me/a/b", ""])
def test_a_repository_is_owner_and_name(name: str, run: Path) -> None:
    with pytest.raises(VAError, match="is not a repository"):
        pack(run, repo_id=name)
    with pytest.raises(VAError, match="is not a repository"):
        hub.fetch(name)


# --- the card


def header(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(front)
    return found


def write_metrics(folder: Path, run_name: str, *, coverage: float | None = 1.0, **changes: Any) -> Path:
    score = {
        name: {"value": value, "low": value - 0.1, "high": value + 0.1}
        for name, value in zip(hub_card.NAMES, (0.512, 0.334, 0.423), strict=True)
    }
    score |= {"num_clips": 8, "num_frames": 3136}
    files.write_json(
        folder / "metrics.json",
        {
            "run": run_name,
            "corpus": "small",
            "synthetic": False,
            "split": "val",
            "label_shift_s": 0.0,
            "rows": [{"abaw": score | {"coverage": coverage}, "paper": None}],
            **changes,
        },
    )
    return folder


def test_the_card_says_what_the_run_says_and_no_figure_without_a_report(run: Path) -> None:
    card = pack(run).contents["README.md"].decode()
    found = header(card)
    assert found["library_name"] == "va"
    assert "license" not in found and "model-index" not in found
    info = json.loads((run / "run.json").read_text())
    assert "None stated: this head was shared without a report." in card
    assert "Nothing here was verified on Aff-Wild2." in card
    assert f"with mean CCC {info['selection']['ccc_mean']:.3f} there" in card
    for words in (
        "`eye`, 12 features",
        "`ear`, 10 features",
        info["identity"]["face"],
        "| sigma | 0.45 |",
        "0. text 0",
    ):
        assert words in card
    assert f"epoch {info['selection']['epoch']}, on dev" in card
    assert 'va.from_pretrained("me/head")' in card


def test_scores_come_from_the_runs_own_report(run: Path, tmp_path: Path) -> None:
    report = write_metrics(tmp_path, run.name)
    card = pack(run, metrics=report, license_name="cc-by-4.0", verified=True).contents["README.md"].decode()
    found = header(card)
    assert found["license"] == "cc-by-4.0"
    (result,) = found["model-index"][0]["results"]
    assert [one["value"] for one in result["metrics"]] == [0.512, 0.334, 0.423]
    assert result["dataset"]["name"] == "small"
    assert "| CCC valence | 0.512 | 0.412 to 0.612 |" in card
    assert "3,136 frames of 8 clips, coverage 100.0%" in card
    assert "states that its scores were verified on Aff-Wild2; `va` cannot check that" in card


def test_a_report_of_another_run_or_none_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(VAError, match=r"reports on 'other', not on"):
        pack(run, metrics=write_metrics(tmp_path, "other"))
    with pytest.raises(VAError, match=r"metrics\.json"):
        pack(run, metrics=tmp_path / "nothing")
    for changes in ({"rows": []}, {"rows": [{"abaw": {}}]}, {"corpus": None}):
        with pytest.raises(VAError, match="is not a report"):
            pack(run, metrics=write_metrics(tmp_path, run.name, **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label_shift_s": -0.5}, "its labels were shifted by -0.5 s"),
        ({"coverage": 0.99999}, "covers 99.999% of the labelled frames"),
        ({"coverage": None}, "covers not any of the labelled frames"),
        ({"split": "train"}, "scores the train split, which the run learned from"),
    ],
)
def test_a_report_whose_figures_are_no_score_is_refused(
    changes: dict[str, Any], said: str, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(VAError, match=re.escape(said)) as raised:
        pack(run, metrics=write_metrics(tmp_path, run.name, **changes))
    refused(raised.value)


def test_what_cannot_have_been_verified_is_not_stated(run: Path, tmp_path: Path) -> None:
    with pytest.raises(VAError, match="--verified-on-affwild2: there are no scores") as raised:
        pack(run, verified=True)
    refused(raised.value)
    report = write_metrics(tmp_path, run.name, synthetic=True)
    with pytest.raises(VAError, match="--verified-on-affwild2: the scores are of the synthetic corpus 'small'"):
        pack(run, verified=True, metrics=report)
    assert "Nothing here was verified" in pack(run, metrics=report).contents["README.md"].decode()


def test_a_head_with_learned_context_says_so(run: Path) -> None:
    info = hub_pack.shareable(json.loads((run / "run.json").read_text()))
    written = {
        "counts": info["counts"],
        "repo_id": "me/head",
        "license_name": "",
        "report": None,
        "verified": False,
        "encoder_bytes": 0,
    }
    plain = hub_card.write(info, **written)
    assert "| context | 0 |" in plain and "learned vector" not in plain
    info["config"]["context"] = 4
    card = hub_card.write(info, **written)
    assert "| context | 4 |" in card
    assert "Each stands after 4 learned vectors" in card.split("## Region texts")[1].split("0. text 0")[0]


# --- what a shared head can be evaluated for


def as_shared(run: Path, folder: Path) -> Path:
    hub_pack.save(pack(run), folder)
    return folder


def evaluated(run: Path, small: Small, out: Path, **changes: Any) -> dict[str, Any]:
    settings = {"corpus": small.corpus, "features": small.features, "robustness": False, "resamples": 20, **changes}
    config = EvaluateConfig(run=run, out=out, device="cpu", **settings)
    return dict(score.run(config, progress=lambda *_: None))


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one", "ensemble"])
def test_a_shared_head_is_evaluated_and_says_what_cannot_be_known(
    seeds: tuple[int, ...], small: Small, tmp_path: Path
) -> None:
    config = small.config(tmp_path / "runs", epochs=1, seeds=seeds, ensemble=len(seeds) > 1)
    made = runs.train(planning.expand(config), epoch_done=lambda *_: None)
    own = ensemble.join(config, made) if len(made) > 1 else made[0]
    shared = as_shared(own, tmp_path / "shared")
    for smooth in ("auto", "median"):
        with pytest.raises(VAError, match="was shared without the names of its selection clips") as raised:
            evaluated(shared, small, tmp_path / "no", smooth=smooth)
        assert "Give --smooth none, or kernel and width" in refused(raised.value)
    assert not (tmp_path / "no").exists()
    smoothed = evaluated(shared, small, tmp_path / "given", smooth="median", smooth_s=3.0)
    assert [row["kind"] for row in smoothed["rows"]][:2] == ["run", "smoothed"]
    found = evaluated(shared, small, tmp_path / "out", smooth="none")
    said = (
        "This head was shared without the names of its training clips: whether it was trained on these clips cannot "
        "be checked."
    )
    assert found["warnings"] == [said]
    assert said in summary.remarks(found) and said in (tmp_path / "out" / "index.html").read_text()  # type: ignore[arg-type]
    # What it was selected on is said as the run itself says it, but for the clips' names.
    count = len(json.loads((own / "run.json").read_text())["selection"]["clips"])
    unshared = evaluated(own, small, tmp_path / "own", smooth="none")
    assert count and f"{count} clips" in found["selected_on"]
    assert found["selected_on"] == unshared["selected_on"]
    assert unshared["warnings"] == []
    for axis in hub_card.NAMES:
        assert found["rows"][0]["abaw"][axis] == unshared["rows"][0]["abaw"][axis]
    # Sharing what was fetched again loses no count.
    info = json.loads((shared / "run.json").read_text())
    assert hub_pack.shareable(info)["counts"] == info["counts"]


@pytest.mark.parametrize("select_on", ["dev", "val"])
def test_the_card_of_an_ensemble_counts_the_clips_of_all_members(select_on: str, small: Small, tmp_path: Path) -> None:
    config = small.config(tmp_path, epochs=1, seeds=(0, 1), ensemble=True, select_on=select_on, dev_fraction=0.4)
    members = runs.train(planning.expand(config), epoch_done=lambda *_: None)
    infos = [json.loads((member / "run.json").read_text()) for member in members]
    trained = {name for info in infos for name in info["train_clips"]}
    selected = {name for info in infos for name in info["selection"]["clips"]}
    card = pack(ensemble.join(config, members)).contents["README.md"].decode()
    assert f"{len(trained)} training clips between its members" in card
    assert f"on {select_on} ({len(selected)} clips between its members)" in card
    assert ("flattered by it" in card) is (select_on == "val")


def test_names_cannot_break_the_card(run: Path, tmp_path: Path) -> None:
    info = hub_pack.shareable(json.loads((run / "run.json").read_text()))
    info["corpus"]["name"] = HOSTILE
    info["region_texts"] = [HOSTILE] * 9
    report = json.loads(write_metrics(tmp_path, run.name, corpus=HOSTILE).joinpath("metrics.json").read_text())
    counts = {"train": 1, "selection": 1}
    card = hub_card.write(
        info,
        counts=counts,
        repo_id="me/head",
        license_name='x"\nevil: 1',
        report=report,
        verified=False,
        encoder_bytes=0,
    )
    found = header(card)
    assert sorted(found) == ["library_name", "license", "model-index", "tags"]
    assert found["model-index"][0]["results"][0]["dataset"]["name"] == HOSTILE
    body = card.split("---\n", 2)[2]
    assert "<script>" not in body
    assert "\n# <" not in body and not re.search(r"^---$", body, re.MULTILINE)


def test_every_text_of_a_run_stays_text_in_the_card(run: Path, tmp_path: Path) -> None:
    """The hub shows a card's HTML, so that a run from elsewhere must not bring any."""
    info = hub_pack.shareable(json.loads((run / "run.json").read_text()))
    report = json.loads(write_metrics(tmp_path, run.name).joinpath("metrics.json").read_text())

    def body(both: tuple[dict[str, Any], dict[str, Any]]) -> str:
        counts = {"train": 1, "selection": 1}
        named = {"repo_id": "me/head", "license_name": "mit", "verified": False, "encoder_bytes": 0}
        card = hub_card.write(both[0], counts=counts, report=both[1], **named).split("---\n", 2)[2]
        return re.sub(r"`[^`\n]*`", lambda code: code[0].replace("<", "&lt;"), card)  # as Markdown shows code

    found, shown = leaks([info, report], lambda both: body(tuple(both)))
    assert (found, shown >= 5) == ([], True)


# --- there and back


def test_a_head_is_pushed_as_one_commit_and_fetched_as_it_was(run: Path, server: Hub, tmp_path: Path) -> None:
    packed = pack(run)
    url = push(packed, server, private=True)
    assert server.private == ["me/head"]
    assert url.startswith(f"{server.address}/me/head/commit/")
    assert server.commits == [("me/head", "main", "A head", ["README.md", "model.safetensors", "run.json"])]
    assert {name: server.repositories["me/head"]["main"][name] for name in packed.contents} == packed.contents
    server.repositories["me/head"]["main"] |= {"evil.pkl": b"x", "code.py": b"x", "pytorch_model.bin": b"x"}
    found = hub.fetch("me/head", cache_dir=tmp_path, endpoint=server.address)
    assert sorted(server.downloads) == sorted(hub_pack.FILES)
    assert sorted(file.name for file in found.iterdir()) == sorted(hub_pack.FILES)
    same_weights(found, run)


def test_pushing_again_is_a_second_commit_and_a_branch_is_made(run: Path, server: Hub, tmp_path: Path) -> None:
    push(pack(run), server)
    push(pack(run, license_name="mit"), server, revision="next", message="With a license")
    assert [commit[1:3] for commit in server.commits] == [("main", "A head"), ("next", "With a license")]
    on_main, on_next = (
        hub.fetch("me/head", revision=branch, cache_dir=tmp_path, endpoint=server.address)
        for branch in ("main", "next")
    )
    assert "license" not in header((on_main / "README.md").read_text())
    assert header((on_next / "README.md").read_text())["license"] == "mit"


def test_what_is_fetched_is_the_commit_that_was_checked(
    run: Path, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(pack(run), server)
    branches = server.repositories["me/head"]
    ask = HfApi.model_info

    def then_moved(*arguments: Any, **named: Any) -> Any:
        found = ask(*arguments, **named)
        if "old" not in branches:
            branches["old"] = branches["main"]
            branches["main"] = {**branches["main"], "README.md": b"moved"}
        return found

    monkeypatch.setattr(HfApi, "model_info", then_moved)
    found = hub.fetch("me/head", cache_dir=tmp_path, endpoint=server.address)
    assert found.name == fake_hub.sha_of(branches["old"])
    assert (found / "README.md").read_bytes() == branches["old"]["README.md"] != b"moved"
    # The branch's name still finds it without a network.
    assert hub.fetch("me/head", cache_dir=tmp_path, endpoint=server.address, local_files_only=True) == found


def test_what_was_fetched_is_there_without_a_network(
    run: Path, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(pack(run), server)
    first = hub.fetch("me/head", cache_dir=tmp_path, endpoint=server.address)
    server.deny = 500
    assert hub.fetch("me/head", cache_dir=tmp_path, endpoint=server.address, local_files_only=True) == first
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.fetch("me/head", cache_dir=tmp_path, endpoint=server.address) == first
    with pytest.raises(VAError, match="not in the local cache"):
        hub.fetch("me/other", cache_dir=tmp_path, endpoint=server.address)
    with pytest.raises(VAError, match="HF_HUB_OFFLINE"):
        push(pack(run), server)


def test_from_pretrained_gives_what_load_gives(
    run: Path, small: Small, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(pack(run), server)
    fetched = hub.fetch("me/head", cache_dir=tmp_path, endpoint=server.address)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = va.from_pretrained("me/head", cache_dir=tmp_path, device="cpu")
    expected = va.load(run, device="cpu")
    assert found._run.directory == fetched
    assert found.texts == expected.texts
    clip = {"corpus": small.corpus, "features": small.features, "clip_id": "clip20"}
    ours, theirs = found.predict_clip(**clip), expected.predict_clip(**clip)
    assert np.isfinite(ours.valence).all()
    assert np.array_equal(ours.valence, theirs.valence) and np.array_equal(ours.arousal, theirs.arousal)


# --- what goes wrong


def refused(error: VAError) -> str:
    assert "\n" not in error.message + error.hint
    return f"{error.message} | {error.hint}"


def test_without_a_token_the_user_is_told_to_log_in(run: Path, server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(VAError) as raised:
        push(pack(run), server)
    assert "401" in refused(raised.value) and "hf auth login" in raised.value.hint
    assert server.commits == []


def test_no_such_repository_or_revision(run: Path, server: Hub, tmp_path: Path) -> None:
    with pytest.raises(VAError, match="no such repository, or you may not see it") as raised:
        hub.fetch("me/ghost", cache_dir=tmp_path, endpoint=server.address)
    refused(raised.value)
    push(pack(run), server)
    with pytest.raises(VAError, match="no such revision") as raised:
        hub.fetch("me/head", revision="ghost", cache_dir=tmp_path, endpoint=server.address)
    refused(raised.value)


def test_a_repository_of_something_else_is_refused_before_anything_is_fetched(server: Hub, tmp_path: Path) -> None:
    server.repositories["me/bert"] = {"main": {"config.json": b"{}", "pytorch_model.bin": b"x", "run.json": b"{}"}}
    with pytest.raises(VAError, match=r"no head of va \(model\.safetensors missing\)") as raised:
        hub.fetch("me/bert", cache_dir=tmp_path, endpoint=server.address)
    refused(raised.value)
    server.repositories["me/huge"] = {"main": {"run.json": b" " * (4 << 20) + b"{}", "model.safetensors": b"x"}}
    with pytest.raises(VAError, match=r"run\.json has 4,194,306 bytes"):
        hub.fetch("me/huge", cache_dir=tmp_path, endpoint=server.address)
    assert server.downloads == []


def test_a_hub_that_is_out_of_reach_or_out_of_order(run: Path, server: Hub, tmp_path: Path) -> None:
    server.deny = 403
    with pytest.raises(VAError, match="403") as raised:
        push(pack(run), server)
    assert "write access" in refused(raised.value)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        nobody = Hub(address=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(VAError, match="cannot be reached") as raised:
            push(pack(run), nobody)
        assert "Check the network" in refused(raised.value)
        with pytest.raises(VAError, match="could not be asked") as raised:
            hub.fetch("me/head", cache_dir=tmp_path, endpoint=nobody.address)
        assert "Check the network" in refused(raised.value)
        server.deny = 0
        push(pack(run), server)
        first = hub.fetch("me/head", cache_dir=tmp_path, endpoint=server.address)
        with pytest.warns(UserWarning, match="the hub is out of reach"):
            assert hub.fetch("me/head", cache_dir=tmp_path, endpoint=nobody.address) == first


# --- the command


def command(*arguments: str | Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["va", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_a_dry_run_shows_what_would_be_pushed(
    run: Path, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("push", run, "me/head", "--dry-run", tmp_path / "dry", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(tmp_path / "dry")]
    assert "nothing was sent" in said.err
    assert server.repositories == {}
    same_weights(tmp_path / "dry", run)
    assert command("push", tmp_path, "me/head", monkeypatch=monkeypatch) == 1
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()[-2:]] == ["error", "fix"]


def test_the_command_pushes_to_the_hub_that_the_environment_names(run: Path, server: Hub) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "va.cli", "push", str(run), "me/head"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HF_HUB_DISABLE_XET": "1", "HF_ENDPOINT": server.address},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{server.address}/me/head/commit/")
    assert len(server.commits) == 1
