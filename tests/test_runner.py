"""The runner, the figures and the whole lot, on an experiment that takes no time."""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from repro import cli, composition, locks, progress, records, runner
from repro.progress import Progress, clock

CONF = Path(__file__).parent / "fixtures" / "conf"
FIGURES = {"line.pdf", "line.svg", "line.png", ".code"}
TINY = ["--config-dir", str(CONF), "experiment=tiny", "scale=smoke"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(CONF.parent))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def calls(monkeypatch):
    import tiny.experiment

    monkeypatch.setattr(tiny.experiment, "calls", [])
    return lambda: len(tiny.experiment.calls)


def load(*overrides):
    return composition.load(["experiment=tiny", "scale=smoke", *overrides], extra=CONF)


def whole_records():
    return sorted(path.name for path in Path("results/runs/tiny").glob("[!.]*"))


def test_a_run_leaves_a_record_with_its_figures(calls, capsys):
    outcome = runner.execute(load(), "the command")
    assert not outcome.cached
    assert outcome.record.summary["command"] == "the command"
    assert outcome.record.summary["headline"] == {"last value": 4.0}
    assert outcome.record.config["training"]["steps"] == 3
    assert list(outcome.record.curves.value) == [0, 2, 4]
    assert {path.name for path in outcome.record.figures.iterdir()} == FIGURES
    printed = capsys.readouterr().out
    assert "last value 4" in printed
    assert "figures/line.{pdf,svg,png}" in printed


def test_the_same_again_is_a_cache_hit(calls, capsys):
    first = runner.execute(load("seed=[0]"), "")
    capsys.readouterr()
    again = runner.execute(load("seed=0", "force=false"), "")
    assert again.cached
    assert again.record.path == first.record.path
    assert calls() == 1
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "tiny: cached in" in printed
    assert "note" not in printed


def test_a_cache_hit_says_when_the_code_has_changed(monkeypatch, capsys):
    runner.execute(load(), "")
    monkeypatch.setattr(records, "source_hash", lambda: "other")
    monkeypatch.setattr(records, "_versions", lambda: {"numpy": "1.0"})
    assert runner.execute(load(), "").cached
    assert "; note: other code; torch " in capsys.readouterr().out


def test_force_runs_anew(calls):
    runner.execute(load(), "first")
    outcome = runner.execute(load("force=true"), "second")
    assert not outcome.cached
    assert calls() == 2
    assert outcome.record.summary["command"] == "second"
    assert whole_records() == [outcome.record.fingerprint]


def test_another_configuration_is_another_record(calls):
    runner.execute(load(), "")
    runner.execute(load("options.factor=3"), "")
    assert calls() == 2
    assert len(whole_records()) == 2


@pytest.mark.parametrize(("fail", "error"), [("true", ZeroDivisionError), ("interrupt", KeyboardInterrupt)])
def test_a_failed_run_leaves_no_record(fail, error):
    with pytest.raises(error):
        runner.execute(load(f"options.fail={fail}"), "")
    assert whole_records() == []


def test_a_failed_forced_run_keeps_the_old_record(monkeypatch):
    import tiny.experiment

    runner.execute(load(), "first")

    def broken(config, progress):
        raise ZeroDivisionError

    monkeypatch.setattr(tiny.experiment, "run", broken)
    with pytest.raises(ZeroDivisionError):
        runner.execute(load("force=true"), "second")
    assert runner.execute(load(), "").record.summary["command"] == "first"


def test_threads_are_torchs():
    import torch

    before = torch.get_num_threads()
    try:
        runner.execute(load("threads=1"), "")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_stored_command_makes_the_record_again(capsys):
    assert cli.run(lambda: None, [*TINY, "force=true", "dropout.block_size=[1,2]"]) == 0
    (record,) = records.records("tiny")
    python, script, *arguments = __import__("shlex").split(record.summary["command"])
    assert (python, script) == ("python", "scripts/run.py")
    assert "force=true" not in arguments
    capsys.readouterr()
    assert cli.run(lambda: None, arguments) == 0
    assert f"cached in {record.path}" in capsys.readouterr().out


def test_figures_come_from_records_alone(calls, capsys, monkeypatch):
    assert cli.figures("", TINY) == 1
    printed = capsys.readouterr()
    assert "no record of this configuration; to make it: python scripts/run.py" in printed.out
    assert not Path("results").exists()
    record = runner.execute(load(), "").record
    capsys.readouterr()
    assert cli.figures("", TINY) == 0
    assert capsys.readouterr().out.strip() == f"results/figures/tiny/line.{{pdf,svg,png}} of record {record.path}"
    assert {path.name for path in Path("results/figures/tiny").iterdir()} == FIGURES - {".code"}
    assert calls() == 1


def test_figures_of_several_experiments_are_drawn_side_by_side(capsys):
    for factor in (1, 3):
        runner.execute(load(f"options.factor={factor}"), "")
    capsys.readouterr()
    assert cli.figures("", [*TINY, "options.factor=1,3,5"]) == 0  # the third has no record
    lines = capsys.readouterr().out.strip().splitlines()
    assert sum("of record" in line for line in lines) == 2
    assert sum("options.factor=5" in line for line in lines) == 1


def test_figures_import_no_torch(tmp_path):
    import subprocess

    runner.execute(load(), "")
    code = (
        "import sys; from repro import cli\n"
        f"sys.path.insert(0, {str(CONF.parent)!r}); assert cli.figures('', {TINY!r}) == 0\n"
        "heavy = {'torch', 'wandb'} & set(sys.modules); assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_reproduce_all(calls, capsys):
    assert cli.reproduce_all("", TINY) == 0
    printed = capsys.readouterr().out
    assert "last value 4" in printed
    assert "results/figures/tiny/line.{pdf,svg,png} of record" in printed
    assert cli.reproduce_all("", TINY) == 0
    printed = capsys.readouterr().out
    assert "tiny: cached in" in printed
    assert "│ cached │" in printed
    assert calls() == 1


def test_reproduce_all_goes_on_after_a_failure(calls, capsys):
    assert cli.reproduce_all("", [*TINY, "options.fail=true,false"]) == 1
    printed = capsys.readouterr()
    assert "ZeroDivisionError" in printed.err
    assert "failed: tiny" in printed.err
    assert calls() == 2
    assert len(whole_records()) == 1


def test_reproduce_all_checks_every_experiment_first(capsys):
    assert cli.reproduce_all("", [*TINY, "training.steps=5,x"]) == 2
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
    from subprocess import PIPE, STDOUT, Popen

    env = os.environ | {"TINY_LOG": str(log), "PYTHONPATH": os.pathsep.join([str(CONF.parent), *sys.path])}
    command = [sys.executable, CONF.parents[2] / "scripts" / "reproduce_all.py", *TINY, *overrides]
    started = [Popen(command, env=env, stdout=PIPE, stderr=STDOUT, text=True) for _ in range(count)]
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
    import multiprocessing

    context = multiprocessing.get_context("fork")
    config, entered = load("seed=5"), context.Event()

    def other():
        with records.claim(config.results, config.name, records.fingerprint(config.plain())):
            entered.set()
            time.sleep(0.3)
            runner.execute(config, "the other's")

    process = context.Process(target=other)
    process.start()
    assert entered.wait(10)
    with pytest.raises(locks.Taken):
        runner.execute(config, "", wait=False)
    outcome = runner.execute(config, "mine")
    process.join()
    assert outcome.cached
    assert outcome.record.summary["command"] == "the other's"
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
    record = runner.execute(load(), "").record
    folder, fingerprint = record.path.parent, record.fingerprint
    for name in (f".tmp-{fingerprint}", f".old-{fingerprint}"):
        (folder / name).mkdir()
    (folder / f".lock-{fingerprint}").touch()
    left = records.checkpoints("results", fingerprint)
    left.mkdir(parents=True)
    (left / "0.pt").touch()
    assert runner.execute(load(), "").cached
    assert calls() == 1
    assert [path.name for path in folder.iterdir()] == [fingerprint]
    assert not left.parent.exists()


@pytest.mark.parametrize("killed", ["before the first figure", "between two files"])
def test_figures_that_were_not_finished_are_drawn_again(killed):
    record = runner.execute(load(), "").record
    (record.figures / "line.pdf").unlink()
    if killed == "between two files":
        (record.path / ".tmp-figures").mkdir()
    else:
        shutil.rmtree(record.figures)
    assert runner.execute(load(), "").cached
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
@pytest.mark.parametrize("name", [*records.FILES, records.CHECKSUMS])
def test_a_damaged_record_is_named_set_aside_and_made_anew(calls, capsys, name, how):
    record = runner.execute(load(), "").record
    hurt = record.path / name
    before = {path.name: path.read_bytes() for path in record.path.iterdir() if path.is_file()}
    damage(hurt, how)
    damaged = {path.name: path.read_bytes() for path in record.path.iterdir() if path.is_file()}
    capsys.readouterr()
    assert cli.figures("", TINY) == 1  # who only reads says so and moves nothing
    assert f"damaged record {record.path} (" in capsys.readouterr().out
    again = runner.execute(load(), "")
    error = capsys.readouterr().err
    assert error.startswith(f"warning: damaged record {record.path}: ")
    assert error.splitlines()[0].endswith(f"; moved to results/damaged/tiny/{record.fingerprint}-1")
    assert (hurt.name in error) or hurt.name == records.CHECKSUMS
    aside = Path("results/damaged/tiny", f"{record.fingerprint}-1")
    assert {path.name: path.read_bytes() for path in aside.iterdir() if path.is_file()} == damaged
    assert (again.cached, calls()) == (False, 2)
    after = {path.name: path.read_bytes() for path in again.record.path.iterdir() if path.is_file()}
    assert {k: v for k, v in after.items() if "." in k and k != "summary.json"} == {
        k: v for k, v in before.items() if "." in k and k != "summary.json"
    }
    assert runner.execute(load(), "").cached


def test_damaged_records_are_not_loaded():
    kept, hurt = (runner.execute(load(f"seed={seed}"), "").record for seed in (1, 2))
    damage(hurt.path / "curves.parquet", "flipped")
    with pytest.warns(UserWarning, match=rf"damaged record {hurt.path} is left out: curves.parquet differs"):
        assert set(records.load("tiny").fingerprint) == {kept.fingerprint}


def test_records_of_other_code_are_marked_where_they_are_shown_or_drawn(monkeypatch, capsys):
    from matplotlib.figure import Figure

    record = runner.execute(load(), "").record
    monkeypatch.setattr(records, "source_hash", lambda: "other")
    marks = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, text, **style: marks.append(text))
    capsys.readouterr()
    assert cli.figures("", TINY) == 0
    assert f"of record {record.path} (other code)" in capsys.readouterr().out
    assert marks == ["record of other code"]
    with pytest.warns(UserWarning, match=rf"1 of 1 records of tiny: {record.fingerprint} \(other code\)"):
        records.load("tiny")
