"""What a user adds beside ours, by a folder of settings and a Python module each: no edit to anything here."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from repro import records
from repro.pipeline import cli
from repro.pipeline.presentation import commands
from repro.pipeline.settings import load

ROOT = Path(__file__).parents[3]
QUICK = ["scale=smoke", "device=cpu", "tracking.mode=disabled"]

FILES = {
    "conf/experiment/waves.yaml": """
        # @package _global_
        # python scripts/run.py --config-dir conf experiment=waves
        defaults:
          - override /data: sine
          - override /model: polynomial
          - override /dropout: shot
          - override /training: halving
        name: waves
        module: waves_experiment
        title: does a polynomial under shot noise follow a wave?
        paper: Ours, unpublished
        seed: [0, 1]
        dropout: {p: null, retain: [0.5, 0.9]}
        options:
          loudness: 2.0   # of the wave
        """,
    "conf/data/sine.yaml": "# a wave\nkind: sine_data\nsamples: 24  # points of the wave\n",
    "conf/model/polynomial.yaml": "# a polynomial\nkind: polynomial_model\ndegree: 3  # of the polynomial\n",
    "conf/dropout/shot.yaml": "# two values, equally likely\nscheme: shot_noise\nstrength: 0.5  # of the noise\n",
    "conf/training/halving.yaml": "# half of the rest, at each step\nkind: halving_training\nsteps: 6  # halvings\n",
    "conf/data/ramp.yaml": "# targets that rise\nkind: ramp_data\nwhiten: true\nfeatures: 6  # inputs, and outputs\n",
    "sine_data.py": """
        from typing import Literal

        import numpy as np

        from repro.pipeline.settings import Count, Data


        class Settings(Data):
            kind: Literal["sine_data"]
            samples: Count


        def load(settings, loudness):
            x = np.linspace(-1, 1, settings.samples)
            return x, loudness * np.sin(3 * x)
        """,
    "polynomial_model.py": """
        from typing import Literal

        import numpy as np

        from repro.pipeline.settings import Count, Model


        class Settings(Model):
            kind: Literal["polynomial_model"]
            degree: Count


        def build(settings, x):
            return np.vander(x, settings.degree + 1)
        """,
    "shot_noise.py": """
        from dataclasses import dataclass
        from typing import Literal

        import torch

        from repro.dropout import MaskDistribution
        from repro.dropout.settings import Noise
        from repro.pipeline.settings import Positive


        class Settings(Noise):
            scheme: Literal["shot_noise"]
            strength: Positive


        @dataclass(frozen=True)
        class Shot(MaskDistribution):
            width: int
            retain: float
            strength: float

            @property
            def covariance(self):
                variance = self.strength * self.retain * (1 - self.retain)
                return variance * torch.eye(self.width, dtype=torch.float64)

            def sample(self, count, generator, dtype=torch.float32):
                coin = torch.rand((count, self.width), generator=generator, device=generator.device) < 0.5
                deviation = (self.strength * self.retain * (1 - self.retain)) ** 0.5
                return self.retain + deviation * (2 * coin.to(dtype) - 1)


        def masks(settings, width, block_size, retain, outputs, inputs):
            return Shot(width, retain, settings.strength)
        """,
    "halving_training.py": """
        from typing import Literal

        import numpy as np

        from repro.pipeline.settings import Count, Training


        class Settings(Training):
            kind: Literal["halving_training"]
            steps: Count


        def train(settings, goal, masks, generator):
            weights = np.zeros_like(goal)
            for step in range(settings.steps + 1):
                yield step, weights
                mask = masks.sample_normalized(64, generator, masks.mean.dtype).mean(0).numpy()
                weights = weights + 0.5 * mask * (goal - weights)
        """,
    "waves_experiment.py": """
        '''Waves and noise.

        Whatever is said here stands in the report.
        '''

        import numpy as np
        import pandas as pd
        import torch
        from halving_training import Settings as Halving
        from matplotlib.figure import Figure
        from polynomial_model import Settings as Polynomial
        from sine_data import Settings as Sine

        from repro.dropout.settings import Dropout
        from repro.pipeline import plotting, settings
        from repro.pipeline.claims import Claim
        from repro.pipeline.settings import Found, Positive, Section, implementation
        from repro.pipeline.store import Result


        class Options(Section):
            loudness: Positive


        class Config(settings.Config):
            data: Found[Sine]
            model: Found[Polynomial]
            dropout: Dropout
            training: Found[Halving]
            options: Options


        def last(record):
            return record.cells.groupby("seed").distance.max()


        CLAIMS = (
            Claim(
                id="near",
                statement="The weights arrive.",
                source="nowhere",
                quantity="distance",
                low=0.0,
                high=0.3,
                because="they are halved",
                measure=last,
            ),
        )
        CAPTIONS = {"distance": "It shrinks."}


        def run(config, progress):
            x, y = implementation(config.data, "load")(config.data, config.options.loudness)
            basis = implementation(config.model, "build")(config.model, x)
            goal = np.linalg.lstsq(basis, y, rcond=None)[0]
            cells, curves = [], []
            for noise, size, rate in config.dropout.points():
                masks = implementation(noise, "masks")(noise, len(goal), size, rate, 1, 1)
                for seed in config.seed:
                    generator = torch.Generator().manual_seed(seed)
                    for step, weights in implementation(config.training, "train")(
                        config.training, goal, masks, generator
                    ):
                        distance = float(np.linalg.norm(weights - goal) / np.linalg.norm(goal))
                        curves.append({"cell": len(cells), "step": step, "distance": distance})
                    cells.append({"cell": len(cells), "scheme": noise.scheme, "retain": rate, "seed": seed})
                    cells[-1]["distance"] = distance
            return Result(pd.DataFrame(cells), pd.DataFrame(curves), headline={"distance": distance})


        def figures(record):
            figure, (axis,) = plotting.panels(1)
            axis.plot(record.curves.step, record.curves.distance, "o")
            return {"distance": figure}
        """,
    "ramp_data.py": """
        from typing import Literal

        import torch

        from repro.data.settings import LinearSettings
        from repro.pipeline.settings import Count


        class Settings(LinearSettings):
            kind: Literal["ramp_data"]
            features: Count


        def load(settings):
            X = torch.eye(settings.features, dtype=torch.float64)
            return X, torch.arange(1, settings.features + 1, dtype=torch.float64).diag()
        """,
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(content).lstrip(), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(theirs, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(theirs))
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name, module in sys.modules.items() if str(theirs) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def run(theirs, *typed):
    return cli.run(["--config-dir", str(theirs / "conf"), *QUICK, *typed])


def test_an_experiment_with_everything_of_its_own_as_a_user_types_it(theirs, tmp_path):
    def typed(*arguments):
        command = [sys.executable, ROOT / "scripts" / "run.py", "--config-dir", theirs / "conf", *arguments]
        variables = os.environ | {"PYTHONPATH": str(theirs)}
        return subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=100)

    done = typed("experiment=waves", *QUICK)
    assert (done.returncode, done.stderr.count("\n")) == (0, 0), done.stderr
    assert "figure results/runs/waves/" in done.stdout
    again = typed("experiment=waves", *QUICK)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("waves: cached in results/runs/waves/")
    cells = records.load("waves", results="results")
    assert len(cells) == 4
    assert set(cells.scheme) == {"shot_noise"}
    assert (cells.distance < 0.3).all()


def test_it_is_reported_estimated_and_varied_as_ours_are(theirs, capsys):
    assert run(theirs, "experiment=waves", "estimate=true") == 0
    assert "halving_training lacks the function estimate" in capsys.readouterr().out
    assert run(theirs, "experiment=waves") == 0
    assert run(theirs, "experiment=waves") == 0
    assert "waves: cached in" in capsys.readouterr().out
    assert cli.over_all(commands.report, "", ["--config-dir", str(theirs / "conf"), "experiment=waves", *QUICK]) == 0
    assert "✓ holds" in capsys.readouterr().out
    page = Path("results/report-waves.html").read_text(encoding="utf-8")
    assert "Whatever is said here stands in the report." in page
    assert "It shrinks." in page
    assert run(theirs, "-m", "experiment=waves", "dropout=bernoulli,gaussian", "model.degree=2") == 0
    assert run(theirs, "experiment=waves", "--help") == 0
    page = capsys.readouterr().out
    for line in ("  samples: 24", "  strength: 0.5", "  loudness: 2.0"):
        comment = {"samples": "points of the wave", "strength": "of the noise", "loudness": "of the wave"}
        assert f"{line:<40} # {comment[line.split(':')[0].strip()]}" in page
    assert "sine" in page
    assert run(theirs, "experiment=waves", "data.samples=0") == 2
    assert "data.samples=0: must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("experiment", "small"),
    [
        ("rank_collapse", ["dropout.p=[0.5,0.9]"]),
        ("any_dropout", ["dropout.retain=[0.5,0.9]", "options.monte_carlo_masks=256"]),
    ],
)
def test_a_noise_in_an_experiment_of_ours(theirs, capsys, experiment, small):
    typed = [f"experiment={experiment}", "dropout=shot", "dropout.strength=0.25", "model.width=8", "data=correlated"]
    assert run(theirs, *typed, *small, "training.steps=40") == 0
    cells = records.load(experiment, results="results")
    assert set(cells.scheme) == {"shot_noise"}
    assert "strength" not in str(capsys.readouterr().err)
    if experiment == "rank_collapse":
        # a quarter of Dropout's variance: the closed form of a larger p, (1/p − 1) a quarter as large
        assert list(cells.p.round(9)) == [round(1 / (1 + 0.25 * (1 / p - 1)), 9) for p in (0.5, 0.9)]
        assert cells.closed_form.notna().all()


def test_a_source_of_data_in_an_experiment_of_ours(theirs):
    typed = ["experiment=rank_collapse", "data=ramp", "data.features=5", "model.width=8", "training.steps=40"]
    assert run(theirs, *typed, "dropout.p=0.9") == 0
    assert run(theirs, "experiment=last_layer_dropout", "data=ramp") == 2


@pytest.mark.parametrize(
    ("files", "typed", "says"),
    [
        ({}, ["data.kind=no_data"], "one of arrays, digit_halves, synthetic; no Python module is named no_data"),
        ({"empty_data.py": ""}, ["data.kind=empty_data"], "the Python module empty_data lacks Settings"),
        ({"empty_noise.py": "Settings = 3"}, ["dropout.scheme=empty_noise"], "module empty_noise lacks Settings"),
        ({}, ["data=sine"], "rank_collapse takes data=arrays, correlated, digit_halves, synthetic"),
        ({}, ["dropout=shot", "dropout.strenght=1"], "unknown key dropout.strenght; did you mean dropout.strength?"),
        ({}, ["dropout=shot", "dropout.strength=0"], "dropout.strength=0: must be greater than 0"),
        (
            {"mute_noise.py": "from repro.dropout.settings import Noise\nclass Settings(Noise): pass"},
            ["dropout.scheme=mute_noise"],
            "mute_noise lacks the function masks",
        ),
        (
            {"mute_data.py": "from repro.data.settings import LinearSettings\nclass Settings(LinearSettings): pass"},
            ["~data", "+data.kind=mute_data", "+data.whiten=true"],
            "mute_data lacks the function load",
        ),
        ({"empty_experiment.py": ""}, ["module=empty_experiment"], "empty_experiment is no experiment"),
        (
            {"idle.py": "from repro.papers.structured_dropout.rank_collapse import Config"},
            ["module=idle"],
            "idle lacks the function run",
        ),
        (
            {"blind.py": "from repro.papers.structured_dropout.rank_collapse import Config\ndef run(c, p): pass"},
            ["module=blind"],
            "blind lacks the function figures",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_them_is_one_line(theirs, tmp_path, monkeypatch, capsys, files, typed, says):
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert run(theirs, "experiment=rank_collapse", *typed) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert says in error
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == sorted(files)


def test_settings_of_theirs_are_recorded_whole_and_tell_runs_apart(theirs):
    def plain(*typed):
        return load(["experiment=waves", *QUICK, *typed], extra=theirs / "conf").plain()

    assert plain()["dropout"] == {
        "scheme": ["shot_noise"], "block_size": [1], "p": None, "retain": [0.5, 0.9], "strength": 0.5,
    }  # fmt: skip
    assert plain()["data"] == {"kind": "sine_data", "samples": 24}
    assert plain("dropout.strength=0.4") != plain()


NOISE = """
    from dataclasses import dataclass
    import torch
    from repro.dropout import MaskDistribution
    from repro.dropout.settings import Noise
    class Settings(Noise): pass
    @dataclass(frozen=True)
    class Mine(MaskDistribution):
        width: int
        retain: float
        @property
        def covariance(self): return torch.eye(self.width, dtype=torch.float64)
        def sample(self, count, generator, dtype=torch.float32): return torch.ones(count, self.width, dtype=dtype)
    def masks(settings, width, block_size, retain, outputs, inputs): return Mine(width, retain)
    """
DATA = """
    import torch
    from repro.data.settings import LinearSettings
    class Settings(LinearSettings): pass
    def load(settings): return torch.eye(6), torch.eye(6)
    """
IMAGES = """
    from repro.data.settings import ImageSettings
    class Settings(ImageSettings): pass
    def load(settings): return []
    """
NETWORK = """
    import torch
    from repro.models.settings import DeepNetwork
    class Settings(DeepNetwork): pass
    class Net(torch.nn.Module):
        def __init__(self, width, classes):
            super().__init__()
            self.body = torch.nn.Linear(784, width)
            self.head = torch.nn.Linear(width, classes, bias=False)
        def features(self, images): return self.body(images.flatten(1))
    def build(settings, channels, classes, seed): return Net(settings.width, classes)
    """
EXPERIMENT = """
    import pandas as pd
    from repro.papers.structured_dropout.settings import LinearConfig as Config
    from repro.pipeline.store import Result
    def run(config, progress): return Result(pd.DataFrame({"cell": [0], "seed": [0]}))
    def figures(record): return {}
    """
LINEAR = ["experiment=rank_collapse", "model.width=8", "dropout.p=0.5", "training.steps=3"]
WITH_NOISE = [*LINEAR, "dropout.scheme=mine"]
WITH_DATA = [*LINEAR, "~data", "+data.kind=mine"]
WITH_IMAGES = ["experiment=last_layer_dropout", "data.kind=mine"]
WITH_NETWORK = ["experiment=last_layer_dropout", "~model", "+model.kind=mine", "+model.width=16"]
PLACES = [
    "experiment=dropblock_approximation",
    "~model",
    "+model.kind=mine",
    "+model.width=16",
    "options.places=[maps]",
]
ITSELF = [*LINEAR, "module=mine", "~options.spectra"]


@pytest.mark.parametrize(
    ("typed", "module", "right", "wrong", "says"),
    [
        (WITH_NOISE, NOISE, "", "", ""),
        (WITH_NOISE, NOISE, "def covariance", "def covarianse", "mine: its masks lack a part (Can't insta"),
        (WITH_NOISE, NOISE, "torch.eye(self.width, d", "torch.ones(self.width, d", "of shape (8, 8), got (8,)"),
        (WITH_NOISE, NOISE, "ones(count, self.w", "ones(self.w", "must have a sample(2, …) of shape (2, 8), got (8,)"),
        (WITH_NOISE, NOISE, "return Mine(width, retain)", "return 3", "its masks must be a MaskDistribution, got int"),
        (WITH_NOISE, NOISE, "frozen=True", "repr=False", "its masks must be a dataclass"),
        (WITH_NOISE, NOISE, "retain, outputs, inputs", "retain", "mine.masks is called with 6 arguments: too many"),
        (WITH_DATA, DATA, "", "", ""),
        (WITH_DATA, DATA, "torch.eye(6), torch.eye(6)", "torch.eye(6)", "data.kind=mine: its load must return X (feat"),
        (WITH_DATA, DATA, "torch.eye(6), t", "torch.eye(5), t", "got (5, 5) and (6, 6)"),
        (WITH_DATA, DATA, "load(settings)", "load()", "mine.load is called with 1 arguments"),
        (WITH_IMAGES, IMAGES, "class Settings(ImageSettings): pass", "Settings = ImageSettings", "mine lacks Settings"),
        (WITH_IMAGES, IMAGES, "return []", "return {}", "data.kind=mine: its load must return two ImageSet"),
        (WITH_NETWORK, NETWORK, "", "", ""),
        (WITH_NETWORK, NETWORK, "self.head =", "self.last =", "must be a Module with the last layer `head`"),
        (WITH_NETWORK, NETWORK, "def features", "def features_of", "its network must have the method `features`"),
        (WITH_NETWORK, NETWORK, "self.body(images.flatten(1))", "images.flatten(1)", "(2, 16) here; got (2, 784)"),
        (WITH_NETWORK, NETWORK, ", bias=False", "", "must have a bias in `head` where model.head_bias is true"),
        (WITH_NETWORK, NETWORK, "def build", "def built", "mine lacks the function build"),
        (PLACES, NETWORK, "", "mine", "mine.build is called with 5 arguments: too many positional arguments"),
        (ITSELF, EXPERIMENT, "", "", ""),
        (ITSELF, EXPERIMENT, "run(config, progress)", "run(config)", "mine.run is called with 2 arguments"),
        (ITSELF, EXPERIMENT, "figures(record)", "figures()", "mine.figures is called with 1 arguments"),
        (ITSELF, EXPERIMENT, "return Result", "Result", "mine.run must return a Result, got NoneType"),
    ],
)  # fmt: skip
def test_a_part_that_does_not_fit_is_one_line(typed, module, right, wrong, says, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    text = dedent(module).lstrip()
    assert right in text
    (tmp_path / "mine.py").write_text(text.replace(right, wrong) if right else text, encoding="utf-8")
    try:
        code = cli.run([*QUICK, *typed, "figures=false"])
    finally:
        sys.modules.pop("mine", None)
    error = capsys.readouterr().err
    if not says:  # right but for that
        assert code == 0, error
        return
    assert code == 2, error
    told = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert "Traceback" not in error
    assert "mine" in told[0]
    assert says in told[0]
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.py", "__pycache__"}


@pytest.mark.parametrize(
    ("typed", "module", "place"),
    [
        (WITH_NOISE, NOISE, "return Mine(width, retain)"),
        (WITH_DATA, DATA, "return torch.eye(6), torch.eye(6)"),
        (WITH_IMAGES, IMAGES, "return []"),
        (WITH_NETWORK, NETWORK, "return self.body(images.flatten(1))"),
        (ITSELF, EXPERIMENT, 'return Result(pd.DataFrame({"cell": [0], "seed": [0]}))'),
    ],
)
def test_an_exception_in_their_code_shows_where(typed, module, place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    text = dedent(module).lstrip()
    assert place in text
    (tmp_path / "mine.py").write_text(text.replace(place, "return [].theirs"), encoding="utf-8")
    try:
        assert cli.run([*QUICK, *typed, "figures=false"]) == 1
    finally:
        sys.modules.pop("mine", None)
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "mine.py" in error
    assert "return [].theirs" in error
