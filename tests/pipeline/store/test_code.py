"""Which code a record's numbers rest on: what changes it, and what does not."""

import shutil
import sys
from pathlib import Path

import pytest

from repro.pipeline.composition import conf
from repro.pipeline.settings import load
from repro.pipeline.store import code

MY = {
    "__init__.py": "",
    "experiment.py": """
        from my.helpers import used
        from repro.theory import support_norm
        from repro.pipeline.settings import Config as Base

        LIMIT = 3
        CLAIMS = [1]

        class Config(Base):
            pass

        def run(config, progress):
            return used(LIMIT)

        def figures(record):
            return LIMIT + 1
        """,
    "helpers.py": """
        from numpy import sin as wave

        def used(x):
            return wave(x)

        def unused(x):
            return x
        """,
    "noise.py": "def masks():\n    return 1\n",
}
CONFIG = {
    "module": "my.experiment",
    "data": {"kind": "synthetic"},
    "model": {"kind": "linear"},
    "dropout": {"scheme": ["bernoulli", "my.noise"]},
    "training": {"kind": "sweep"},
}


@pytest.fixture(autouse=True)
def forget():
    """What is read is read once a process."""
    yield
    fresh()


def fresh():
    for kept in (code._path, code._source, code._hashes):
        kept.cache_clear()


@pytest.fixture
def my(tmp_path, monkeypatch):
    for name, text in MY.items():
        file = tmp_path / "my" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(line.removeprefix("        ") for line in text.splitlines()) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my", raising=False)
    return tmp_path / "my"


def changed(file, old, new):
    """The modules that count as other code after a change, and whether figures do."""
    before, drawn = code.computed_by(CONFIG), code.drawn_by(CONFIG)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    fresh()
    after = code.computed_by(CONFIG)
    names = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    return names, code.drawn_by(CONFIG) != drawn


@pytest.mark.parametrize(
    ("file", "old", "new", "modules", "figures"),
    [
        ("helpers.py", "return wave(x)", "return 2 * wave(x)", {"my.helpers"}, False),
        ("helpers.py", "import sin as wave", "import cos as wave", {"my.helpers"}, False),
        ("noise.py", "return 1", "return 2", {"my.noise"}, False),
        ("experiment.py", "LIMIT = 3", "LIMIT = 4", {"my.experiment"}, True),
        ("experiment.py", "    pass", "    strict = True", {"my.experiment"}, False),
        ("experiment.py", "return LIMIT + 1", "return LIMIT + 2", set(), True),
        ("helpers.py", "    return x", "    return -x", set(), False),
        ("experiment.py", "CLAIMS = [1]", "CLAIMS = [2]", set(), False),
        (
            "experiment.py",
            "    return used(LIMIT)",
            '    """Runs."""\n    # now\n    return used( LIMIT)',
            set(),
            False,
        ),
    ],
)
def test_of_the_users_own_code_what_the_numbers_name_counts(my, file, old, new, modules, figures):
    assert changed(my / file, old, new) == (modules, figures)


def test_a_module_of_the_users_that_is_not_here_cannot_be_compared(my):
    assert code.computed_by(CONFIG | {"module": "not.here"}) is None
    assert code.computed_by(CONFIG | {"data": {"kind": "not.here"}}) is None


EXPERIMENTS = list(conf.experiments())


def of_each():
    configs = {name: load([f"experiment={name}", "scale=smoke", "device=cpu"]).plain() for name in EXPERIMENTS}
    fresh()
    return {name: code.computed_by(config) for name, config in configs.items()}


@pytest.fixture(scope="module")
def before():
    return of_each()


CHANGES = [
    # a comment, a message, what only shows
    ("pipeline.system.errors", "import", "# a comment\nimport", set()),
    ("pipeline.plotting", "def save", "SOMETHING = 1\n\n\ndef save", set()),
    ("papers.structured_dropout.rank_collapse.figures", "import", "SOMETHING = 1\nimport", set()),
    ("theory.support_norm", "import torch\n", "import torch\n\nNEW = 1\n", set()),
    # a noise, and those who ask for it
    ("dropout.gaussian.masks", "class CorrelatedGaussian", "@final\nclass CorrelatedGaussian",
     {"any_dropout", "global_minimum_any_dropout"}),
    ("data.digit_halves.load", "pixels[:392], pixels[392:]", "pixels[392:], pixels[:392]",
     {"rank_collapse_digits", "deep_linear_collapse_digits"}),
    ("training.network.loop", "task.code", "str(task.code)",
     {name for name in EXPERIMENTS if name.startswith("last_layer") or name == "dropblock_approximation"}),
    ("pipeline.store.parts", "ignore_index=True", "ignore_index=False", set(EXPERIMENTS)),
]  # fmt: skip


def test_of_ours_too(before, tmp_path, monkeypatch):
    """All changes at once, in a copy: each is seen in the hash of its own module, by those whom it concerns."""
    shutil.copytree(code.ROOT / "repro", tmp_path / "repro", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "ROOT", tmp_path)
    for module, old, new, _ in CHANGES:
        path = tmp_path.joinpath("repro", *module.split(".")).with_suffix(".py")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
    after = of_each()
    found = {(name, module) for name in EXPERIMENTS for module, _ in before[name].items() ^ after[name].items()}
    assert found == {(name, f"repro.{module}") for module, _, _, of in CHANGES for name in of}


def test_every_definition_behind_a_run_is_found(before):
    """Names that the modules of an experiment take from another are defined there; else all of it would count."""
    for modules in before.values():
        assert {module.rpartition(".")[2] for module in modules} & {"figures", "claims", "plotting"} == set()
    assert Path(code._path("repro.dropout.dropblock.masks")).is_file()
    assert code._behind("repro.dropout", "DropBlock")[1] == [("repro.dropout.dropblock.masks", "DropBlock")]
