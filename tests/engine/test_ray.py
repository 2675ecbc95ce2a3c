"""Tasks on Ray, real ones: what they are given, how their errors look, and that results are the local engine's."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray_head
import ray_jobs
import tuned_run
from safetensors.torch import load_file
from small_corpus import Small, identity, small
from small_tower import towered

from va import cores
from va.data import affwild2, synthetic
from va.data.features import FeatureStore, Source, open_stores
from va.engine import cluster, tasks
from va.engine.cluster import Cluster
from va.engine.config import EngineSettings
from va.engine.tasks import Place
from va.errors import VAError
from va.extract import pipeline
from va.extract import scaleout as extracting
from va.extract.config import ExtractConfig
from va.train import ablate, compare, sweep
from va.train.ablate_config import AblateConfig
from va.train.compare_config import CompareConfig
from va.train.config import SweepConfig
from va.version import __version__

__all__ = ["small", "towered"]

# Ray would write a token into the home folder; read when it is imported.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


def quiet(*_: object) -> None:
    """Hear nothing."""


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two cores, the only one of this module."""
    head = Path(ray_head.__file__)
    path = os.pathsep.join([str(head.parent), str(head.parents[1])])  # where workers find their tasks
    process = subprocess.Popen(
        [sys.executable, head],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.communicate("")
    assert process.returncode == 0


@pytest.fixture(scope="class")
def joined(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = EngineSettings(engine="ray", ray_address=address, task_cpus=1)
    with cluster.joined(settings, device="cpu", seen=[tmp_path_factory.mktemp("shared")]) as found:
        yield found


class TestTasks:
    def test_each_item_ends_once_with_the_cores_it_was_given(self, joined: Cluster) -> None:
        ended = [one for one in joined.run(ray_jobs.describe, list(range(20)), stopping=never) if one is not None]
        assert sorted(one.item for one in ended) == list(range(20))
        for one in ended:
            assert one.result is not None and not one.lost
            assert one.result[:3] == (one.item, 1, cores.environment(1)["OMP_NUM_THREADS"])

    def test_an_error_for_the_user_arrives_as_its_two_lines(self, joined: Cluster) -> None:
        with pytest.raises(VAError, match="the disk of item 1 is full") as raised:
            list(joined.run(ray_jobs.refuse, [0, 1, 2], stopping=never))
        assert raised.value.hint == "Make room."
        assert raised.value.__cause__ is None

    def test_a_mistake_of_ours_keeps_its_traceback(self, joined: Cluster) -> None:
        with pytest.raises(ZeroDivisionError, match=r"ray_jobs.py.*in blunder") as raised:
            joined.one(ray_jobs.blunder, 0)
        assert not isinstance(raised.value, VAError)

    def test_the_task_of_a_killed_worker_is_run_again(self, joined: Cluster, tmp_path: Path) -> None:
        items = [(tmp_path, name) for name in ("", "a", "bb")]
        ended = [one for one in joined.run(ray_jobs.die_at_first, items, stopping=never) if one is not None]
        assert sorted(one.result or "" for one in ended) == ["", "a", "bb"]
        assert [len(list(tmp_path.glob(f"{name}.*"))) for name in ("", "a", "bb")] == [1, 2, 3]

    @pytest.mark.slow
    def test_a_task_that_always_kills_its_worker_is_given_up(self, joined: Cluster, tmp_path: Path) -> None:
        items = [(tmp_path, name) for name in ("", "a" * 20)]
        ended = {one.item[1]: one for one in joined.run(ray_jobs.die_at_first, items, stopping=never) if one}
        assert ended[""].result == "" and not ended[""].lost
        assert ended["a" * 20].result is None and "died" in ended["a" * 20].lost
        with pytest.raises(VAError, match="were lost 6 times"):
            joined.one(ray_jobs.die_at_first, (tmp_path, "b" * 20))

    def test_a_stop_lets_the_begun_finish_and_the_others_be(self, joined: Cluster, tmp_path: Path) -> None:
        def stopping() -> bool:
            return len(list(tmp_path.glob("begun.*"))) == 2

        ended = [one for one in joined.run(ray_jobs.wait, [tmp_path] * 6, stopping=stopping) if one is not None]
        assert sorted(str(one.result) for one in ended) == ["None"] * 4 + ["finished"] * 2


def test_a_machine_that_does_not_see_the_folder_is_named(address: str, tmp_path: Path) -> None:
    settings = EngineSettings(engine="ray", ray_address=address)
    seen = [tmp_path, tmp_path / "elsewhere"]
    match = r"machine \S+ of the Ray cluster: .*elsewhere: is not seen there"
    with pytest.raises(VAError, match=match), cluster.joined(settings, device="cpu", seen=seen):
        pass
    assert list(tmp_path.iterdir()) == [], "no mark is left"


def test_tasks_that_fit_no_machine_are_refused(address: str) -> None:
    for changes, what in (({"task_cpus": 64}, "64 cores and 0 GPUs"), ({"task_gpus": 1.0}, "2 cores and 1 GPUs")):
        settings = EngineSettings(engine="ray", ray_address=address, **changes)
        with pytest.raises(VAError, match=what), cluster.joined(settings, device="auto", seen=[]):
            pass


@pytest.mark.parametrize(
    ("version", "seen", "match"),
    [("0.0", True, "its va is .*, that of this command 0.0"), (__version__, False, "file: is not seen there")],
)
def test_what_a_machine_lacks_is_said(version: str, seen: bool, match: str, tmp_path: Path) -> None:
    if seen:
        (tmp_path / "file").touch()
    place = Place(version=version, folder=str(Path.cwd()), seen=(tmp_path / "file",), cpus=1)
    answer = tasks.look(place)
    assert isinstance(answer, VAError)
    with pytest.raises(VAError, match=match):
        raise answer


def test_nothing_is_lacking_where_all_is_there(tmp_path: Path) -> None:
    assert tasks.look(Place(version=__version__, folder=str(Path.cwd()), seen=(tmp_path,), cpus=1)) is None


@pytest.mark.parametrize(
    ("address", "match"), [("127.0.0.1:9", "no Ray cluster answers there"), ("nonsense", "is no address")]
)
def test_an_address_where_nothing_is(address: str, match: str) -> None:
    settings = EngineSettings(engine="ray", ray_address=address)
    with pytest.raises(VAError, match=match), cluster.joined(settings, device="cpu", seen=[]):
        pass


def test_without_ray_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(VAError, match=r"Ray is not installed \(.*\)\nInstall it: pip install 'ray>="),
        cluster.joined(EngineSettings(engine="ray"), device="cpu", seen=[]),
    ):
        pass


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine clips, one of which is no video."""
    root = tmp_path_factory.mktemp("corpus")
    synthetic.write_tree(root, clips=9, seconds=2.0, seed=0, workers=1, progress=quiet)
    found = affwild2.read_tree(root, out=root, name="x", synthetic=True, sample=None, progress=quiet)
    found.clips[4].media.write_bytes(b"no video")
    return found.path


def content(out: Path) -> dict[tuple[str, str], list[bytes]]:
    found = {}
    for store in open_stores(out):
        for clip in store.clip_ids():
            read = store.read(clip)
            found[store.directory.name, clip] = [read.values.tobytes(), read.time_s.tobytes(), read.valid.tobytes()]
    return found


def same_as_local(corpus: Path, address: str, tmp_path: Path, *encoders: str) -> None:
    config = {"corpus": corpus, "encoders": encoders, "device": "cpu", "readers": 1}
    local = pipeline.run(ExtractConfig(out=tmp_path / "local", **config), progress=quiet)
    heard: list[tuple[int, int, str]] = []
    on_ray = ExtractConfig(out=tmp_path / "ray", engine="ray", ray_address=address, task_cpus=1, **config)
    remote = extracting.run(on_ray, progress=lambda *line: heard.append(line), stopping=never)
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    assert len(content(tmp_path / "ray")) == 8 * len(encoders)
    for name in ("written", "present", "failed", "left", "mended", "frames", "windows"):
        assert getattr(remote, name) == getattr(local, name), name
    assert [store.name for store in remote.stores] == [store.name for store in local.stores]
    (record,) = (tmp_path / "local" / "failures").iterdir()
    assert (tmp_path / "ray" / "failures" / record.name).read_bytes() == record.read_bytes()
    assert heard[0] == (0, 9, "starting Ray") and heard[-1][:2] == (9, 9) and "frames" in heard[-1][2]
    assert {stage.name for stage in remote.stages} == {stage.name for stage in local.stages}
    assert not list((tmp_path / "ray").glob(".*")), "no mark is left"


@pytest.mark.slow
def test_extraction_gives_every_value_of_the_local_engine(address: str, corpus: Path, tmp_path: Path) -> None:
    same_as_local(corpus, address, tmp_path, "pixels", "loudness")


@pytest.mark.slow
def test_networks_give_every_value_of_the_local_engine(address: str, corpus: Path, tmp_path: Path) -> None:
    same_as_local(corpus, address, tmp_path, "tiny-clip", "tiny-ast")


@pytest.mark.slow
def test_an_encoder_that_is_not_there_is_said_as_locally(address: str, corpus: Path, tmp_path: Path) -> None:
    config = ExtractConfig(corpus=corpus, out=tmp_path, encoders=("no-such",), engine="ray", ray_address=address)
    with pytest.raises(VAError, match="--encoders: there is no encoder 'no-such'"):
        extracting.run(config, progress=quiet, stopping=never)


def test_a_sweep_trains_the_same_bits_in_the_same_stacks(address: str, small: Small, tmp_path: Path) -> None:
    heads = {"corpus": small.corpus, "features": small.features, "width": 16, "num_heads": 2, "epochs": 3, "stack": 2}
    # The second stack fails, both trials of it.
    heads |= {"centers": (0.66,), "sigmas": (0.3,), "seeds": (0, 1), "learning_rates": (5e-3, 1e30), "device": "cpu"}
    local = sweep.run(SweepConfig(out=tmp_path / "local", **heads), progress=quiet)
    heard: list[tuple[int, int, str]] = []
    config = SweepConfig(out=tmp_path / "ray", engine="ray", ray_address=address, task_cpus=1, **heads)
    remote = sweep.run(config, progress=lambda *line: heard.append(line))
    assert len(local["failed"]) == 2
    names = sorted(file.parent.name for file in (tmp_path / "local" / "runs").glob("*/run.json"))
    assert sorted(file.parent.name for file in (tmp_path / "ray" / "runs").glob("*/run.json")) == names
    assert len(names) == 2
    for name in names:
        ours, theirs = tmp_path / "ray" / "runs" / name, tmp_path / "local" / "runs" / name
        assert sorted(path.name for path in ours.iterdir()) == sorted(path.name for path in theirs.iterdir())
        for file in ("model.safetensors", "log.jsonl"):
            assert (ours / file).read_bytes() == (theirs / file).read_bytes()
        infos = [json.loads((run / "run.json").read_text()) for run in (ours, theirs)]
        for info in infos:
            del info["created"], info["seconds"], info["config"]["out"]
        assert infos[0] == infos[1] and infos[0]["trained_together"] == 2
    for results in (local, remote):
        del results["created"], results["settings"]
        for trial in results["trials"]:
            del trial["seconds"]
    assert remote == local
    done = [line[0] for line in heard]
    assert done == sorted(done) and done[-1] == 12 and len(done) >= 7, "every epoch of both trials was heard"


@pytest.mark.slow
def test_a_sweep_with_learned_context_trains_the_same_bits(address: str, towered: Small, tmp_path: Path) -> None:
    """A worker finds the text tower beside the features, both to say how many trials fit and to train them."""
    heads = {"corpus": towered.corpus, "features": towered.features, "width": 16, "num_heads": 2, "epochs": 2}
    heads |= {"centers": (0.66,), "sigmas": (0.45,), "seeds": (0, 1), "context": (0, 2), "device": "cpu"}
    sweep.run(SweepConfig(out=tmp_path / "local", **heads), progress=quiet)
    config = SweepConfig(out=tmp_path / "ray", engine="ray", ray_address=address, task_cpus=1, **heads)
    results = sweep.run(config, progress=quiet)
    assert [(row["context"], row["seed"]) for row in results["trials"]] == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert [row["trained_together"] for row in results["trials"]] == [2] * 4
    for row in results["trials"]:
        weights, theirs = (tmp_path / out / row["run"] / "model.safetensors" for out in ("ray", "local"))
        assert weights.read_bytes() == theirs.read_bytes()
        assert ("region_head.context" in load_file(weights)) == (row["context"] > 0)


@pytest.mark.slow
def test_fine_tuned_encoders_give_every_value_of_the_local_engine(address: str, corpus: Path, tmp_path: Path) -> None:
    run = tuned_run.make_run(tmp_path / "run")
    config = {"corpus": corpus, "encoders": (f"run:{run}",), "device": "cpu", "readers": 1}
    pipeline.run(ExtractConfig(out=tmp_path / "local", **config), progress=quiet)
    on_ray = ExtractConfig(out=tmp_path / "ray", engine="ray", ray_address=address, task_cpus=1, **config)
    extracting.run(on_ray, progress=quiet, stopping=never)
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    assert len(content(tmp_path / "ray")) == 8 * 2


Made = tuple[dict[str, Any], int]
"""Results, and how many runs they are of."""


def ablation(small: Small, out: Path, **engine: Any) -> Made:
    heads: dict[str, Any] = {"epochs": 1, "seeds": (0,), "device": "cpu", "table": 3, "pairs": ("eye+ear",)}
    return ablate.run(
        AblateConfig(corpus=small.corpus, features=small.features, out=out, **heads, **engine), progress=quiet
    ), 6


def comparison(small: Small, out: Path, **engine: Any) -> Made:
    if not any(store.encoder == "ear2" for store in open_stores(small.features)):
        first = next(store for store in open_stores(small.features) if store.encoder == "ear")
        other = FeatureStore.create(small.features, identity("ear2", "audio", first.dim))
        for clip in first.clip_ids():
            other.write(clip, first.read(clip), Source(size=1, digest="0"))
    heads: dict[str, Any] = {"epochs": 2, "seeds": (0,), "device": "cpu", "width": 16, "pairs": ("eye+ear", "eye+ear2")}
    return compare.run(
        CompareConfig(corpus=small.corpus, features=small.features, out=out, **heads, **engine), progress=quiet
    ), 2


@pytest.mark.slow
@pytest.mark.parametrize("make", [ablation, comparison])
def test_tables_train_the_same_bits(make: "Callable[..., Made]", address: str, small: Small, tmp_path: Path) -> None:
    (local, count), (remote, _) = (
        make(small, tmp_path / out, **engine)
        for out, engine in (("local", {}), ("ray", {"engine": "ray", "ray_address": address, "task_cpus": 1}))
    )
    found = sorted((tmp_path / "local").glob("runs/*/model.safetensors"))
    assert len(found) == count
    for file in found:
        assert (tmp_path / "ray" / file.relative_to(tmp_path / "local")).read_bytes() == file.read_bytes()
    for results in (local, remote):
        del results["settings"]
    assert remote == local
