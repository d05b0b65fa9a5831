"""The runner, the figures and the whole lot, on an experiment that takes no time."""

import json
import multiprocessing
import os
import shlex
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from tiny import experiment as tiny

from repro.pipeline import cli, settings
from repro.pipeline.execution import commands, making, runner
from repro.pipeline.presentation import commands as showing
from repro.pipeline.store import Run, records
from repro.pipeline.store import run as store_run
from repro.pipeline.store.integrity import CHECKSUMS, FILES, seal
from repro.pipeline.store.place import Place
from repro.pipeline.system import locks, progress
from repro.pipeline.system.progress import Progress, clock
from repro.pipeline.system.threads import torch_threads

CONF = Path(__file__).parents[2] / "fixtures" / "conf"
FIGURES = {"line.pdf", "line.svg", "line.png", ".code"}
TINY = ["--config-dir", str(CONF), "experiment=tiny", "scale=smoke"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def calls(monkeypatch):
    monkeypatch.setattr(tiny, "calls", [])
    return lambda: len(tiny.calls)


def load(*overrides):
    return settings.load(["experiment=tiny", "scale=smoke", *overrides], extra=CONF)


def execute(config, command="", **options):
    return runner.execute(Run(config, command), **options)


def figures(*arguments):
    return cli.over_all(showing.figures, "", list(arguments))


def reproduce_all(*arguments):
    return cli.over_all(commands.reproduce_all, "", list(arguments))


def whole_records():
    return sorted(path.name for path in Path("results/runs/tiny").glob("[!.]*"))


def test_a_run_leaves_a_record_with_its_figures(calls, capsys):
    outcome = execute(load(), "the command")
    assert not outcome.cached
    assert outcome.record.summary["command"] == "the command"
    assert outcome.record.summary["headline"] == {"last value": 4.0}
    assert outcome.record.config["training"]["steps"] == 3
    assert list(outcome.record.curves.value) == [0, 2, 4]
    assert {path.name for path in outcome.record.figures.iterdir()} == FIGURES
    printed = capsys.readouterr().out
    assert "last value 4" in printed
    assert "figures/line.{pdf,svg,png}" in printed


def test_the_tracked_run_is_called_what_was_typed_and_carries_the_fingerprint(monkeypatch):
    begun = []
    start = making.tracking.start
    monkeypatch.setattr(making.tracking, "start", lambda *a, **named: begun.append(named) or start(*a, **named))
    assert cli.run([*TINY, "seed=3", "tracking.project=a", "dropout.block_size=[1,2]"]) == 0
    (record,) = records.records("tiny")
    assert begun[0]["name"] == "tiny seed=3 dropout.block_size=[1,2] scale=smoke"
    assert begun[0]["fingerprint"] == record.fingerprint
    monkeypatch.setattr(store_run.Run, "label", "x" * 300)
    assert cli.run([*TINY, "seed=4"]) == 0
    assert len(begun[1]["name"]) == 128  # as much as W&B takes


def test_the_same_again_is_a_cache_hit(calls, capsys):
    first = execute(load("seed=[0]"))
    capsys.readouterr()
    again = execute(load("seed=0", "force=false"))
    assert again.cached
    assert again.record.path == first.record.path
    assert calls() == 1
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "tiny: cached in" in printed
    assert "note" not in printed


def test_a_cache_hit_says_when_the_libraries_have_changed(monkeypatch, capsys):
    execute(load())
    monkeypatch.setattr(records, "versions", lambda: {"numpy": "1.0"})
    assert execute(load()).cached
    assert "; note: torch " in capsys.readouterr().out


OTHER = {"my.noise": "as it is now"}


def test_a_record_of_other_code_is_made_anew_and_the_first_line_says_so(calls, monkeypatch, capsys):
    path = execute(load()).record.path
    monkeypatch.setattr(records, "computed_by", lambda config: OTHER)
    capsys.readouterr()
    assert not execute(load(), "second").cached
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"tiny: runs anew, the record {path} is of other code (my.noise, ")
    assert first.endswith("; other_code=accept takes it as it is")
    assert calls() == 2
    assert records.Record(path).summary["command"] == "second"


def test_a_record_of_other_code_is_taken_where_the_user_accepts_it(calls, monkeypatch, capsys):
    execute(load())
    monkeypatch.setattr(records, "computed_by", lambda config: OTHER)
    capsys.readouterr()
    assert execute(load("other_code=accept")).cached
    assert "(other_code=rerun runs it anew); note: other code (my.noise, " in capsys.readouterr().out
    assert calls() == 1


def test_a_record_older_than_the_comparison_of_code_is_taken_and_not_noted(calls, monkeypatch, capsys):
    record = execute(load()).record
    file = record.path / "summary.json"
    summary = json.loads(file.read_text())
    summary["code"] = {"commit": "0" * 40, "dirty": False, "source": "a hash of the old kind"}
    file.write_text(json.dumps(summary))
    seal(record.path)
    capsys.readouterr()
    assert execute(load()).cached
    assert capsys.readouterr().out.rstrip().endswith("; of code not compared with this")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records.load("tiny")
    assert calls() == 1


def test_force_runs_anew(calls):
    execute(load(), "first")
    outcome = execute(load("force=true"), "second")
    assert not outcome.cached
    assert calls() == 2
    assert outcome.record.summary["command"] == "second"
    assert whole_records() == [outcome.record.fingerprint]


def test_another_configuration_is_another_record(calls):
    execute(load())
    execute(load("options.factor=3"))
    assert calls() == 2
    assert len(whole_records()) == 2


@pytest.mark.parametrize(("fail", "error"), [("true", ZeroDivisionError), ("interrupt", KeyboardInterrupt)])
def test_a_failed_run_leaves_no_record(fail, error):
    with pytest.raises(error):
        execute(load(f"options.fail={fail}"))
    assert whole_records() == []


def test_a_failed_forced_run_keeps_the_old_record(monkeypatch):
    execute(load(), "first")

    def broken(config, progress):
        raise ZeroDivisionError

    monkeypatch.setattr(tiny, "run", broken)
    with pytest.raises(ZeroDivisionError):
        execute(load("force=true"), "second")
    assert execute(load()).record.summary["command"] == "first"


@pytest.mark.parametrize("asked", ["null", "1", "3"])
def test_a_run_computes_on_one_thread_of_torch_and_leaves_their_number(monkeypatch, asked):
    seen, original = [], tiny.run
    monkeypatch.setattr(tiny, "run", lambda *given: seen.append(torch.get_num_threads()) or original(*given))
    with torch_threads(2):
        execute(load(f"threads={asked}"))
        assert torch.get_num_threads() == 2
    assert seen == [1]


def test_the_stored_command_makes_the_record_again(capsys):
    assert cli.run([*TINY, "force=true", "dropout.block_size=[1,2]"]) == 0
    (record,) = records.records("tiny")
    python, script, *arguments = shlex.split(record.summary["command"])
    assert (python, script) == ("python", "scripts/run.py")
    assert "force=true" not in arguments
    capsys.readouterr()
    assert cli.run(arguments) == 0
    assert f"cached in {record.path}" in capsys.readouterr().out


def test_figures_come_from_records_alone(calls, capsys, monkeypatch):
    assert figures(*TINY) == 1
    printed = capsys.readouterr()
    assert "no record of this configuration; to make it: python scripts/run.py" in printed.out
    assert not Path("results").exists()
    record = execute(load()).record
    capsys.readouterr()
    assert figures(*TINY) == 0
    assert capsys.readouterr().out.strip() == f"results/figures/tiny/line.{{pdf,svg,png}} of record {record.path}"
    assert {path.name for path in Path("results/figures/tiny").iterdir()} == FIGURES - {".code"}
    assert calls() == 1


def test_figures_of_several_experiments_are_drawn_side_by_side(capsys):
    for factor in (1, 3):
        execute(load(f"options.factor={factor}"))
    capsys.readouterr()
    assert figures(*TINY, "options.factor=1,3,5") == 0  # the third has no record
    lines = capsys.readouterr().out.strip().splitlines()
    assert sum("of record" in line for line in lines) == 2
    assert sum("options.factor=5" in line for line in lines) == 1


def test_figures_import_no_torch(tmp_path):
    execute(load())
    code = (
        "import sys; from repro.pipeline import cli; from repro.pipeline.presentation import commands\n"
        f"sys.path.insert(0, {str(CONF.parent)!r}); assert cli.over_all(commands.figures, '', {TINY!r}) == 0\n"
        "heavy = {'torch', 'wandb'} & set(sys.modules); assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_reproduce_all(calls, capsys):
    assert reproduce_all(*TINY) == 0
    printed = capsys.readouterr().out
    assert "last value 4" in printed
    assert "results/figures/tiny/line.{pdf,svg,png} of record" in printed
    assert reproduce_all(*TINY) == 0
    printed = capsys.readouterr().out
    assert "tiny: cached in" in printed
    assert "│ cached │" in printed
    assert calls() == 1


def test_reproduce_all_goes_on_after_a_failure(calls, capsys):
    assert reproduce_all(*TINY, "options.fail=true,false") == 1
    printed = capsys.readouterr()
    assert "ZeroDivisionError" in printed.err
    assert "failed: tiny" in printed.err
    assert calls() == 2
    assert len(whole_records()) == 1


def test_reproduce_all_checks_every_experiment_first(capsys):
    assert reproduce_all(*TINY, "training.steps=5,x") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: training.steps=x: must be an integer")
    assert error.count("\n") == 1
    assert not Path("results").exists()


def test_progress_in_plain_lines(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("sweep").phase("SGD", total=100) as bar:
        for second in range(1, 26):
            now[0] = float(second)
            bar.advance(4)
    assert capsys.readouterr().err.splitlines() == [
        "sweep: SGD: 100 to do",
        "sweep: SGD: 40 of 100 (40 %), 15.0 s left",
        "sweep: SGD: 80 of 100 (80 %), 5.0 s left",
        "sweep: SGD: done in 25.0 s",
    ]


def test_progress_on_a_terminal_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("sweep", total=4) as bar:
        bar.advance(4)
        bar.say("[a] line")
    printed = capsys.readouterr().err
    assert "[a] line" in printed
    assert "4/4" in printed


def test_progress_can_be_quiet(capsys):
    with Progress("sweep", total=4, quiet=True).phase("SGD", total=2) as bar:
        bar.advance(2)
        bar.say("nothing")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.21, "4.2 s"), (59.97, "1 min 00 s"), (185.0, "3 min 05 s"), (7800.0, "2 h 10 min")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


# crowds


def runners(count, *overrides, log):
    """So many `reproduce_all` at once, each a process of its own; what they printed."""
    env = os.environ | {"TINY_LOG": str(log), "PYTHONPATH": os.pathsep.join([str(CONF.parent), *sys.path])}
    command = [sys.executable, CONF.parents[2] / "scripts" / "reproduce_all.py", *TINY, *overrides]
    started = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(count)
    ]
    printed = [process.communicate(timeout=100)[0] for process in started]
    assert [process.returncode for process in started] == [0] * count, printed
    return printed


def test_three_at_once_do_every_run_once(tmp_path):
    log = tmp_path / "log"
    printed = runners(3, "seed=1,2,3,4", "options.seconds=0.5", log=log)
    assert sorted(log.read_text().split()) == whole_records()
    assert len(whole_records()) == 4
    assert all(text.count("│ run ") + text.count("│ cached ") == 4 for text in printed)
    assert sum(text.count("│ run ") for text in printed) == 4
    assert sum(text.count("another process is at it") for text in printed) >= 1
    assert {path.name for path in Path("results").rglob(".*")} == {".code"}


def test_who_waits_takes_the_record(calls):
    context = multiprocessing.get_context("fork")
    config, entered = load("seed=5"), context.Event()

    def other():
        with Run(config).claim():
            entered.set()
            time.sleep(0.3)
            execute(config, "of the other")

    process = context.Process(target=other)
    process.start()
    assert entered.wait(10)
    with pytest.raises(locks.Taken):
        execute(config, wait=False)
    outcome = execute(config, "mine")
    process.join()
    assert outcome.cached
    assert outcome.record.summary["command"] == "of the other"
    assert calls() == 0


def test_what_others_are_at_comes_last():
    tried = []
    busy = {"a": 9, "c": 1}  # so many attempts find it taken

    def attempt(item, wait):
        tried.append((item, wait))
        if busy.get(item, 0) and not wait:
            busy[item] -= 1
            raise locks.Taken

    runner.one_after_another(["a", "b", "c", "d"], attempt)
    first, then = [(item, False) for item in "abcd"], [(item, False) for item in "aca"]
    assert tried == [*first, *then, ("a", True)]


# what a killed owner leaves


def test_what_a_killed_owner_left_is_cleared_up(calls):
    record = execute(load()).record
    folder, fingerprint = record.path.parent, record.fingerprint
    for name in (f".tmp-{fingerprint}", f".old-{fingerprint}"):
        (folder / name).mkdir()
    (folder / f".lock-{fingerprint}").touch()
    left = Place.at(record.path).checkpoints
    left.mkdir(parents=True)
    (left / "0.pt").touch()
    assert execute(load()).cached
    assert calls() == 1
    assert [path.name for path in folder.iterdir()] == [fingerprint]
    assert not left.parent.exists()


@pytest.mark.parametrize("killed", ["before the first figure", "between two files"])
def test_figures_that_were_not_finished_are_drawn_again(killed):
    record = execute(load()).record
    (record.figures / "line.pdf").unlink()
    if killed == "between two files":
        (record.path / ".tmp-figures").mkdir()
    else:
        shutil.rmtree(record.figures)
    assert execute(load()).cached
    assert {path.name for path in record.figures.iterdir()} == FIGURES
    assert not (record.path / ".tmp-figures").exists()


# damage


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing"])
@pytest.mark.parametrize("name", [*FILES, CHECKSUMS])
def test_a_damaged_record_is_named_set_aside_and_made_anew(calls, capsys, name, how):
    record = execute(load()).record
    hurt = record.path / name
    before = {path.name: path.read_bytes() for path in record.path.iterdir() if path.is_file()}
    damage(hurt, how)
    damaged = {path.name: path.read_bytes() for path in record.path.iterdir() if path.is_file()}
    capsys.readouterr()
    assert figures(*TINY) == 1  # who only reads says so and moves nothing
    assert f"damaged record {record.path} (" in capsys.readouterr().out
    again = execute(load())
    error = capsys.readouterr().err
    assert error.startswith(f"warning: damaged record {record.path}: ")
    assert error.splitlines()[0].endswith(f"; moved to results/damaged/tiny/{record.fingerprint}-1")
    assert (hurt.name in error) or hurt.name == CHECKSUMS
    aside = Path("results/damaged/tiny", f"{record.fingerprint}-1")
    assert {path.name: path.read_bytes() for path in aside.iterdir() if path.is_file()} == damaged
    assert (again.cached, calls()) == (False, 2)
    after = {path.name: path.read_bytes() for path in again.record.path.iterdir() if path.is_file()}
    assert {k: v for k, v in after.items() if "." in k and k != "summary.json"} == {
        k: v for k, v in before.items() if "." in k and k != "summary.json"
    }
    assert execute(load()).cached


def test_damaged_records_are_not_loaded():
    kept, hurt = (execute(load(f"seed={seed}")).record for seed in (1, 2))
    damage(hurt.path / "curves.parquet", "flipped")
    with pytest.warns(UserWarning, match=rf"damaged record {hurt.path} is left out: curves.parquet differs"):
        assert set(records.load("tiny").fingerprint) == {kept.fingerprint}


def test_records_of_other_code_are_marked_where_they_are_named_and_not_in_figures(monkeypatch, capsys):
    record = execute(load()).record
    monkeypatch.setattr(records, "computed_by", lambda config: OTHER)
    marks = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, text, **style: marks.append(text))
    capsys.readouterr()
    assert figures(*TINY) == 0
    assert f"of record {record.path} (other code (my.noise, " in capsys.readouterr().out
    assert marks == []  # nobody wants it in a paper
    with pytest.warns(UserWarning, match=rf"1 of 1 records of tiny: {record.fingerprint} \(other code \(my.noise, "):
        records.load("tiny")
