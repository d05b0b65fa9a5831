"""Tracking: what W&B's own transaction log holds after a run, and that no failure of W&B becomes ours."""

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import wandb
from matplotlib.figure import Figure
from wandb.proto import wandb_internal_pb2

from repro.pipeline.execution import runner, tracking
from repro.pipeline.settings import Tracking, load
from repro.pipeline.store import Run
from repro.pipeline.store.records import records
from repro.pipeline.system.errors import UserError

CONFIG: dict[str, Any] = {
    "name": "rank_collapse",
    "seed": [0, 1],
    "dropout": {"scheme": "dropblock", "block_size": [1, 4], "p": [0.5, 0.8], "retain": None},
}

STARTED = (
    "import os, sys; from types import SimpleNamespace as S; import pandas as pd\n"
    "from repro.pipeline.execution import tracking\n"
    "T = S(mode='offline', project='p', entity=None)\n"
    "with tracking.start(T, 'results', name='n', fingerprint='0', config={}, group='g', tags=[]) as run:\n"
)
"""The beginning of a script in which a run is tracked."""


def start(directory: Path, mode: str = "offline", **more: Any) -> Any:
    options = dict(
        name="a run",
        fingerprint="f" * 16,
        config=CONFIG,
        group="rank_collapse",
        tags=["cpu", "smoke"],
    )
    settings = Tracking.model_validate({"mode": mode, "project": "structured-dropout", "entity": None})
    return tracking.start(settings, directory, **(options | more))  # type: ignore[arg-type]


def cells() -> pd.DataFrame:
    grid = [(r, p, seed) for r in (1, 4) for p in (0.5, 0.8) for seed in (0, 1)]
    rows = [
        dict(
            cell=i,
            scheme="dropblock",
            block_size=r,
            p=p,
            retain=p / (p + (8 // r) * (1 - p)),
            seed=s,
            gap=0.1 * i,
        )
        for i, (r, p, s) in enumerate(grid)
    ]
    return pd.DataFrame(rows)


def curves() -> pd.DataFrame:
    rows = [dict(cell=c, step=s, objective=100.0 * c + s, theory=1.0) for c in range(8) for s in (0, 10, 20)]
    return pd.DataFrame(rows)


# W&B's transaction log, read without W&B's own reader (not public): LevelDB's log format after a header of
# seven bytes: blocks of 32 KiB of chunks [crc32, length, type]; type 1 is a whole record, 2, 3, 4 its parts.


def transactions(log: Path) -> Iterator[Any]:
    content, at, parts = log.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left_in_block = 32768 - at % 32768
        if left_in_block < 7:
            at += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def read(log: Path) -> SimpleNamespace:
    """The run in a transaction log: config, history, summary, tags, group, name, exit code."""
    deadline = time.monotonic() + 10
    while not any(record.HasField("exit") for record in transactions(log)):
        # W&B's service may end its file a moment after the run's `finish`
        assert time.monotonic() < deadline, "the run was not finished"
        time.sleep(0.05)
    run = SimpleNamespace(config={}, history=[], summary={}, exit_code=None)
    for record in transactions(log):
        match record.WhichOneof("record_type"):
            case "run":
                run.config |= values(record.run.config.update)
                run.tags, run.group, run.name = (
                    list(record.run.tags),
                    record.run.run_group,
                    record.run.display_name,
                )
                run.id, run.project = record.run.run_id, record.run.project
            case "history":
                run.history.append(values(record.history.item))
            case "summary":
                run.summary |= values(record.summary.update)
            case "exit":
                run.exit_code = record.exit.exit_code
    return run


def only_run(directory: Path) -> SimpleNamespace:
    [log] = directory.glob("wandb/offline-run-*/*.wandb")
    return read(log)


def test_everything_arrives(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Figure(figsize=(1, 1)).savefig(tmp_path / "spectrum.png")
    with start(tmp_path) as run:
        run.log_curves(cells(), curves())
        run.summary({"worst_gap": 0.25})
        run.log_figures({"spectrum": tmp_path / "spectrum.pdf"})
    out, err = capfd.readouterr()
    assert out.startswith("W&B: offline; to upload: wandb sync ")
    assert out.count("\n") == 1
    assert err == ""
    logged = only_run(tmp_path)
    assert {key: logged.config[key] for key in CONFIG} == CONFIG
    assert (logged.name, logged.group, logged.tags) == ("a run", "rank_collapse", ["cpu", "smoke"])
    assert logged.project == "structured-dropout"
    assert logged.exit_code == 0
    steps = {row["step"]: row for row in logged.history if "theory/block_size=1 p=0.5" in row}
    assert list(steps) == [0, 10, 20]
    # cells 6 and 7 are the two seeds of r = 4, p = 0.8
    assert steps[10]["objective/block_size=4 p=0.8"] == 660.0
    assert len([key for key in steps[0] if key.startswith("objective/")]) == 4
    assert logged.summary["worst_gap"] == 0.25
    assert not any(key.startswith("objective") for key in logged.summary)
    last = logged.history[-1] | logged.history[-2]
    assert last["cells/nrows"] == 8
    assert last["figures/spectrum/_type"] == "image-file"
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/**/*.png"))) == 1


def told(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.to_dict("records")  # type: ignore[return-value]


def points(logged: SimpleNamespace) -> list[tuple[str, int, float]]:
    """Every point of every curve, in the order in which they were logged."""
    rows = [row for row in logged.history if "step" in row]
    return [(key, row["step"], value) for row in rows for key, value in row.items() if "/" in key]


def test_every_point_arrives_once_and_when_all_seeds_have_it(tmp_path: Path) -> None:
    table, rows = cells(), curves()
    with start(tmp_path) as run:
        run.watch(told(table[["cell", "scheme", "block_size", "p", "retain", "seed"]]))
        run.see(told(rows[rows.cell == 0]))  # of one seed alone: nothing yet
        run.see(told(rows[(rows.cell == 1) & (rows.step < 20)]))
        run.see(told(rows[rows.cell.isin([6, 7])]))
        run.log_curves(table, rows)
    found = points(only_run(tmp_path))
    label = "objective/block_size=1 p=0.5"
    assert [(key, step, value) for key, step, value in found[:4] if key == label] == [
        (label, 0, 50.0),
        (label, 10, 60.0),
    ]
    assert len(found) == len({(key, step) for key, step, _ in found}) == 2 * 4 * 3
    whole = {
        (key, step): v for step, row in tracking.mean_curves(table, rows, CONFIG).items() for key, v in row.items()
    }
    assert {(key, step): value for key, step, value in found} == pytest.approx(whole)


LIVE = {
    "dropblock_objective": [],
    "rank_collapse": ["dropout.block_size=[1,4]", "dropout.p=[0.5,0.8]"],
    "dropconnect": [],
    "wide_networks": ["options.growth=[1,2]"],
    "global_minimum": ["options.solve=false", "options.width_needed=null"],
    "deep_linear_regularizer": [],
    "last_layer_dropout": ["seed=[0,1]", "data.subset=150", "options.monte_carlo_masks=64", "threads=1"],
    "dropblock_approximation": ["data.subset=150", "threads=1", "seed=[0,1]"],
}


@pytest.mark.parametrize("name", LIVE)
def test_what_is_seen_along_the_way_are_the_curves_of_the_record(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the curves are shown early, under the names and with the values of the end."""
    logged: list[dict[str, float]] = []
    fake = SimpleNamespace(
        define_metric=lambda *a, **k: None,
        log=logged.append,
        dir="x/files",
        summary={},
        finish=lambda **k: None,
        url="",
    )
    monkeypatch.setattr(wandb, "init", lambda **options: fake)
    monkeypatch.setattr(tracking.Run, "log_curves", lambda run, cells, curves: logged.append({"end": 1.0}))
    typed = [f"experiment={name}", "scale=smoke", "device=cpu", "figures=false", f"results={tmp_path}", *LIVE[name]]
    run = Run(load(typed))
    runner.execute(run, quiet=True)
    (record,) = records(name, tmp_path)
    assert logged.index({"end": 1.0}) == len(logged) - 1
    seen = {(key, int(row["step"])): v for row in logged[:-1] for key, v in row.items() if key != "step"}
    rows = tracking.mean_curves(record.cells, record.curves, record.config)
    assert seen == pytest.approx({(key, step): v for step, row in rows.items() for key, v in row.items()})


def test_an_unfinished_run_gives_way_to_its_successor(tmp_path: Path) -> None:
    code = STARTED.replace("'0'", "'1' * 16") + "    run.begin(); os._exit(9)\n"
    for killed in (1, 2):  # the second in the place of the first
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, timeout=100)
        assert len(list(tmp_path.glob("results/wandb/offline-run-*"))) == 1, killed
    with start(tmp_path / "results", fingerprint="2" * 16) as run:
        run.begin()
    assert len(list(tmp_path.glob("results/wandb/offline-run-*"))) == 2  # another run is none of its business
    for _ in range(2):  # one that has ended stays, as where force=true runs it again
        with start(tmp_path / "results", fingerprint="1" * 16) as run:
            run.begin()
    ids = [read(log).config["fingerprint"][0] for log in tmp_path.glob("results/wandb/offline-run-*/*.wandb")]
    assert sorted(ids) == ["1", "1", "2"]
    assert not list(tmp_path.rglob(tracking.UNFINISHED))


@pytest.mark.parametrize("place", ["wandb", "home/.config/wandb"])
def test_a_settings_file_of_wandbs_changes_nothing(place: str, tmp_path: Path) -> None:
    code = STARTED + "    run.summary({'a': 1.0})\n"
    (tmp_path / place).mkdir(parents=True)
    theirs = "[default]\nmode = disabled\nproject = theirs\nentity = them\nrun_group = x\nrun_notes = y\nrun_id = z\n"
    (tmp_path / place / "settings").write_text(theirs)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "XDG_"))}
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=kept | {"HOME": str(tmp_path / "home")}, check=True, timeout=100
    )
    [log] = tmp_path.glob("results/wandb/offline-run-*/*.wandb")
    logged = read(log)
    assert (logged.project, logged.group, logged.summary["a"]) == ("p", "g", 1.0)
    [run] = [record.run for record in transactions(log) if record.HasField("run")]
    assert (run.entity, run.notes) == ("", "")


def test_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = STARTED + "    run.log_curves(pd.DataFrame({'cell': [0]}), pd.DataFrame())\n"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "XDG_"))}
    # what a user's shell may hold must change nothing
    environment |= {
        "HOME": str(home),
        "WANDB_MODE": "disabled",
        "WANDB_RUN_ID": "same",
        "WANDB_PROJECT": "other",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "results"]
    assert list(home.iterdir()) == []
    logged = only_run(tmp_path / "results")
    assert logged.project == "p"
    assert logged.id != "same"


def test_a_failed_run_shows_as_failed(tmp_path: Path) -> None:
    def fail() -> None:
        with start(tmp_path) as run:
            run.summary({"before": 1.0})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    logged = only_run(tmp_path)
    assert logged.exit_code == 1
    assert logged.summary["before"] == 1.0


def test_an_interrupted_run_shows_as_failed(tmp_path: Path) -> None:
    def interrupted() -> None:
        with start(tmp_path) as run:
            run.begin()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert only_run(tmp_path).exit_code == 1


PARALLEL = """
import os, time
from types import SimpleNamespace as S
import wandb
from repro.pipeline.execution import tracking
T = S(mode="offline", project="p", entity=None)
begin = time.time() + 0.5
children = []
for number in range(4):
    if child := os.fork():
        children.append(child)
        continue
    time.sleep(begin - time.time())
    config = {"number": number}
    with tracking.start(T, name="n", fingerprint="0", config=config, group="g", tags=[], directory="results") as run:
        run.summary({"square": float(number**2)})
    wandb.teardown()  # os._exit skips what Python does at its end
    os._exit(0)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_runs_of_the_same_second_keep_their_configs_and_summaries(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    subprocess.run([sys.executable, "-c", PARALLEL], cwd=tmp_path, env=environment, check=True, timeout=100)
    logs = list(tmp_path.glob("results/wandb/offline-run-*/*.wandb"))
    runs = sorted((read(log) for log in logs), key=lambda run: run.config["number"])
    assert [run.config["number"] for run in runs] == [0, 1, 2, 3]
    assert [run.summary["square"] for run in runs] == [0, 1, 4, 9]
    assert len({run.id for run in runs}) == 4


# failures of W&B


class Broken:
    """A W&B run of which one method fails."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.dir = "x/files"
        self.exit_code: int | None = None

    def __getattr__(self, name: str) -> Any:
        if name == self.method:
            raise OSError(28, "No space left\non device")
        return SimpleNamespace(update=lambda values: None) if name == "summary" else lambda *a, **k: None

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code
        if self.method == "finish":
            raise OSError(28, "No space left\non device")


@pytest.mark.parametrize("method", ["log", "define_metric", "summary", "finish"])
def test_a_failure_is_one_line_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    broken = Broken(method)
    monkeypatch.setattr(wandb, "init", lambda **options: broken)
    with start(tmp_path) as run:
        run.log_curves(cells(), curves())
        run.summary({"a": 1.0})
        run.log_curves(cells(), curves())
    error = capsys.readouterr().err
    assert error.startswith("warning: W&B: [Errno 28] No space left on device")
    assert error.count("\n") == 1
    assert broken.exit_code == 0


def test_a_failure_does_not_hide_the_runs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Broken("finish")
    monkeypatch.setattr(wandb, "init", lambda **options: broken)

    def fail() -> None:
        with start(tmp_path) as run:
            run.begin()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert broken.exit_code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_start_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**options: Any) -> None:
        raise wandb.Error("refused")

    monkeypatch.setattr(wandb, "init", refuse)
    with start(tmp_path) as run:
        run.log_curves(cells(), curves())
        run.log_figures({"missing": tmp_path / "missing.png"})
    assert capsys.readouterr() == ("", "warning: W&B: refused; the run goes on untracked\n")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").write_text("a file in the way")
    with start(tmp_path / "results") as run:
        run.begin()
    assert capsys.readouterr().err.count("\n") == 1


def test_wandb_that_is_not_installed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with start(tmp_path) as run:
        run.summary({"a": 1.0})
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_picture_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with start(tmp_path) as run:
        run.log_figures({"missing": tmp_path / "missing.png"})
    assert capsys.readouterr().err.count("\n") == 1
    assert only_run(tmp_path).exit_code == 0


def test_online_without_credentials_goes_on_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr(wandb, "login", lambda **options: asked.append(options) or False)
    with start(tmp_path, "online") as run:
        run.summary({"a": 1.0})
    out, err = capsys.readouterr()
    assert asked == [{"prompt": False}]
    assert err == "warning: W&B: no credentials (wandb login, or WANDB_API_KEY); going on offline\n"
    assert out.startswith("W&B: offline")
    assert only_run(tmp_path).summary["a"] == 1.0


def test_disabled_does_not_import_wandb() -> None:
    code = (
        STARTED.replace("offline", "disabled") + "    run.summary({'a': 1.0}); run.log_figures({'a': 'b'})\n"
        "sys.exit('wandb' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_that_nothing_trained_in_is_none_of_wandbs(tmp_path: Path) -> None:
    def mistaken() -> None:
        with start(tmp_path) as run:
            run.watch(told(cells()))
            raise UserError("damaged")

    with pytest.raises(UserError):
        mistaken()
    assert not list(tmp_path.iterdir())


# labels


def test_missing_values_are_left_out_of_the_curves() -> None:
    gaps = curves().assign(theory=np.nan)
    rows = tracking.mean_curves(cells(), gaps, CONFIG)
    assert list(rows) == [0, 10, 20]
    assert all(key.startswith("objective/") for row in rows.values() for key in row)


def test_a_run_of_one_configuration_needs_no_label() -> None:
    one = pd.DataFrame({"cell": [0, 1], "seed": [0, 1], "p": 0.5})
    steps = pd.DataFrame({"cell": [0, 1], "step": 5, "objective": [1.0, 3.0]})
    assert tracking.mean_curves(one, steps, CONFIG) == {5: {"objective/mean": 2.0}}
