"""scripts/records.py: what it lists, what it finds damaged, what differs, what it removes and what it leaves alone."""

import json
import multiprocessing
from pathlib import Path

import pandas as pd
import pytest

from repro.pipeline.execution import runner
from repro.pipeline.presentation import inventory
from repro.pipeline.settings import load
from repro.pipeline.store import Run, records, writing
from repro.pipeline.store.integrity import seal
from repro.pipeline.store.place import Place

CONF = Path(__file__).parents[2] / "fixtures" / "conf"


@pytest.fixture
def two(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    runs = [
        Run(load(["experiment=tiny", "scale=smoke", f"seed={seed}"], extra=CONF), f"python make it seed={seed}")
        for seed in (1, 2)
    ]
    found = [runner.execute(run).record for run in runs]
    capsys.readouterr()
    return found


def command(capsys, *arguments):
    code = inventory.command("", list(arguments))
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_list_and_verify(two, capsys, monkeypatch):
    code, lines, _ = command(capsys, "list")
    assert code == 0
    told = [line for line in lines if not line.startswith(" ")]
    assert [line.split()[0] for line in told[:2]] == sorted(str(record.path) for record in two)
    assert lines[-1] == "2 intact, 0 damaged"
    assert command(capsys, "verify") == (0, ["2 intact, 0 damaged"], "")
    flip(two[0].path / "cells.parquet")
    code, lines, _ = command(capsys, "verify", "tiny")
    assert code == 1
    assert lines == [
        f"{two[0].path}  DAMAGED: cells.parquet differs from its checksum",
        "1 intact, 1 damaged",
    ]
    assert two[0].path.exists()  # who only looks moves nothing
    assert command(capsys, "verify", "other")[1] == ["0 intact, 0 damaged"]
    monkeypatch.setattr(records, "computed_by", lambda config: {"my.noise": "other"})
    assert "other code (my.noise, " in "\n".join(command(capsys, "list")[1])


def test_list_says_how_a_record_came_about(two, capsys):
    size = sum(file.stat().st_size for file in two[0].path.rglob("*") if file.is_file()) / 1e6
    lines = command(capsys, "list")[1]
    first = next(number for number, line in enumerate(lines) if line.startswith(str(two[0].path)))
    facts = ["smoke", "seed 1", "1 cells", f"{size:.1f} MB", two[0].summary["finished"]]
    assert lines[first].split("  ")[1:] == facts
    assert lines[first + 1 : first + 3] == ["    python make it seed=1", "    of an experiment that is not here"]
    lines = command(capsys, "--config-dir", str(CONF), "list")[1]
    assert lines[lines.index("    python make it seed=1") + 1] == "    not as it ships: seed=[1]"


def test_list_says_what_is_not_as_it_ships(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for typed in ((), ("training.learning_rate=0.1", "seed=7", "tracking.mode=disabled")):
        config = load(["experiment=global_minimum", "scale=smoke", "device=cpu", *typed])
        result = records.Result(pd.DataFrame({"cell": [0]}))
        writing.write(Place.of("results", config.plain()), config.plain(), result, command="", durations={})
    told = [line.strip() for line in command(capsys, "list")[1] if "ships" in line]
    assert told == ["not as it ships: seed=[7], training.learning_rate=0.1"]
    assert command(capsys, "diff")[1][0].startswith("seed: ")


def test_list_by_age(two, capsys, monkeypatch):
    monkeypatch.setitem(two[0].summary, "finished", "2020-01-01T00:00:00+00:00")
    (two[0].path / "summary.json").write_text(json.dumps(two[0].summary))
    seal(two[0].path)
    assert command(capsys, "list", "--newer", "1h")[1][0].split()[0] == str(two[1].path)
    assert command(capsys, "list", "--newer", "1h")[1][-1] == "1 intact, 0 damaged"
    assert command(capsys, "list", "--older", "2.5d")[1][0].split()[0] == str(two[0].path)
    assert command(capsys, "list", "--older", "1h", "--newer", "30m")[1] == ["0 intact, 0 damaged"]
    with pytest.raises(SystemExit):
        command(capsys, "list", "--newer", "soon")
    assert "as in 12h" in capsys.readouterr().err


def test_diff(two, capsys, monkeypatch):
    assert command(capsys, "diff", two[0].fingerprint, two[1].fingerprint) == (0, ["seed: [1] | [2]"], "")
    for newest in ((), ("tiny",)):
        assert command(capsys, "diff", *newest)[1] in (["seed: [1] | [2]"], ["seed: [2] | [1]"])  # within a second
    monkeypatch.setitem(two[1].summary["code"], "commit", "1" * 40)  # the commit alone does not make other numbers
    two[1].summary["code"]["modules"]["my.noise"] = "abc"
    two[1].summary["environment"]["versions"] |= {"numpy": "1.0", "matplotlib": "1.0"}
    (two[1].path / "summary.json").write_text(json.dumps(two[1].summary))
    seal(two[1].path)
    assert [line.split(":")[0] for line in command(capsys, "diff")[1]] == ["code of my.noise", "numpy", "seed"]
    assert command(capsys, "diff", "other") == (
        2,
        [],
        "error: diff other: there are no two records of other in results\n",
    )
    assert command(capsys, "diff", two[0].fingerprint, two[0].fingerprint)[1] == ["no difference"]
    code, _, error = command(capsys, "diff", "zzz", two[0].fingerprint)
    assert (code, error) == (2, "error: zzz: must name one record in results; it names none\n")


def test_no_results(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert command(capsys, "list") == (2, [], "error: --results=results: there is no such folder\n")


def leftovers(record):
    """What killed processes may leave of a run, and what somebody still needs."""
    folder = record.path.parent
    dead = [folder / f".{kind}-{record.fingerprint}" for kind in ("tmp", "old")]
    dead += [folder / ".tmp-0123456789ab", Place.at(record.path).checkpoints]
    for path in dead:
        path.mkdir(parents=True)
    (folder / ".lock-0123456789ab").touch()
    half = Place(Path("results"), "tiny", "ba9876543210").checkpoints
    half.mkdir()
    return [*dead, folder / ".lock-0123456789ab"], half


def test_prune_takes_only_what_is_dead(two, capsys):
    dead, half = leftovers(two[0])
    code, lines, _ = command(capsys, "prune", "--dry-run")
    assert code == 0
    assert sorted(lines) == sorted(f"would remove {path}" for path in dead)
    assert all(path.exists() for path in dead)
    code, lines, _ = command(capsys, "prune")
    assert sorted(lines) == sorted(f"removed {path}" for path in dead)
    assert not any(path.exists() for path in dead)
    assert half.exists()
    assert command(capsys, "verify")[1] == ["2 intact, 0 damaged"]
    assert command(capsys, "prune")[1] == ["nothing"]
    assert command(capsys, "prune", "--checkpoints")[1] == [f"removed {half}"]


def test_prune_leaves_runs_under_way_alone(two, capsys):
    dead, _ = leftovers(two[0])
    context = multiprocessing.get_context("fork")
    held, ending = context.Event(), context.Event()

    def owner():
        with Place.at(two[0].path).claim():
            (two[0].path.parent / f".tmp-{two[0].fingerprint}").mkdir()
            held.set()
            ending.wait()

    process = context.Process(target=owner)
    process.start()
    assert held.wait(10)
    command(capsys, "prune", "--old", "--checkpoints")
    kept = (f".tmp-{two[0].fingerprint}", f".lock-{two[0].fingerprint}")
    assert all((two[0].path.parent / name).exists() for name in kept)
    assert dead[3].exists()  # its checkpoints
    ending.set()
    process.join()


def test_old_and_damaged_records_go_on_request_alone(two, capsys, monkeypatch):
    flip(two[0].path / "cells.parquet")
    with Place.at(two[0].path).claim():  # sets it aside
        pass
    monkeypatch.setattr(records, "computed_by", lambda config: {"my.noise": "other"})
    assert command(capsys, "prune")[1] == ["nothing"]
    assert command(capsys, "prune", "--damaged")[1] == ["removed results/damaged"]
    assert two[1].path.exists()
    assert command(capsys, "prune", "--old")[1] == [f"removed {two[1].path}"]
    assert not two[1].path.exists()
