"""The sixth paper's experiments: a run of seconds, claims on made-up records with their controls, what is refused."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from repro.data.pairs import Choice, Pairs, Part
from repro.papers.structured_output import arms, baselines
from repro.papers.structured_output.claims import ALL
from repro.papers.structured_output.settings import BASELINES, CONTROLS, compared, sizes
from repro.papers.structured_output.structured_output_digits.run import pixel_errors
from repro.pipeline import settings
from repro.pipeline.execution.making import compute
from repro.pipeline.experiment import Experiment
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings.config import module_of
from repro.pipeline.store import Record, Run
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.theory import landmark_errors

LANDMARKS, DIGITS = "structured_output_landmarks", "structured_output_digits"
SMALL = ["scale=smoke", "device=cpu", "threads=1", "tracking.mode=disabled", "training.steps=8", "training.checks=4"]


def ran(folder, name, *overrides):
    config = settings.load([f"experiment={name}", *SMALL, *overrides, f"results={folder}", "force=true"])
    return Run(config, "the command").write(compute(config, Progress("", quiet=True)), {})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return ran(tmp_path_factory.mktemp(LANDMARKS), LANDMARKS)


# ---------------------------------------------------------------------- the run


def test_a_run_has_every_arm_at_every_number_of_pairs(small):
    cells, curves = small.cells, small.curves
    main = cells[~cells.arm.isin(CONTROLS)]
    table = main.groupby(["arm", "extra", "pairs"]).seed.nunique()
    assert set(table) == {2}
    arms_there = {arm for arm, *_ in table.index}
    assert arms_there == {"plain", "in", "out", "in+out", "pretrained", *BASELINES}
    assert set(main[main.extra].arm) == {"in", "out", "in+out", "pretrained"}
    assert set(cells[cells.arm.isin(CONTROLS)].pairs) == {20}
    trained = cells[~cells.arm.isin(BASELINES)]
    assert set(curves.cell) == set(trained.cell)
    assert curves.groupby("cell").size().eq(4).all()
    best = curves.loc[curves.groupby("cell").validation.idxmin()].set_index("cell")
    np.testing.assert_allclose(trained.set_index("cell").validation, best.validation.loc[trained.cell], rtol=1e-12)
    assert (trained.set_index("cell").best_step == best.step.loc[trained.cell]).all()
    assert small.arrays["cdf"].shape == (len(cells), 51)
    assert len(small.arrays["shown_inputs"]) == 9
    assert small.arrays["shown_inputs"].shape[1:] == (14, 14)
    share = np.interp(0.1, small.arrays["limits"], small.arrays["cdf"][0])
    assert share == pytest.approx(cells.share[0], abs=1e-3)


def test_controls_that_must_be_the_plain_network_are(small):
    decided = decisions(small)
    assert (decided["untied_is_plain"], decided["zero_is_plain"], decided["schedules"]) == ("holds",) * 3


def test_threads_leave_the_numbers_the_same(small, tmp_path):
    again = ran(tmp_path, LANDMARKS, "threads=2")
    pd.testing.assert_frame_equal(again.cells, small.cells)
    pd.testing.assert_frame_equal(again.curves, small.curves)


def test_all_pairs_leave_nothing_alone(tmp_path):
    rings = ["data=rings", "data.samples=60", "data.side=8", "options.pairs=all", "seed=0"]
    record = ran(tmp_path, DIGITS, *rings)
    assert set(record.cells.pairs) == {43}
    assert not record.cells.extra.any()
    assert {"untied", "zero"} < set(record.cells.arm)
    made = Record(record.path)
    made.__dict__["config"] = record.config | {"scale": "cpu"}
    found = decisions(made)
    assert found["outputs_alone_help"] == found["shuffled_outputs_do_not"] == "not measured"


def test_a_folder_of_faces(tmp_path):
    """The whole way: 68 points, mixed sizes, grey and colour; and a picture without its points is one line."""
    root = tmp_path / "faces"
    root.mkdir()
    generator = np.random.default_rng(0)
    for number in range(16):
        size = (60 + number, 70)
        levels = generator.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(levels).convert("L" if number % 2 else "RGB").save(root / f"{number}.jpg")
        rows = "\n".join(f"{x:.3f} {y:.3f}" for x, y in generator.uniform(10, 50, (68, 2)))
        (root / f"{number}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
    typed = ["data=landmarks", f"data.root={root}", "data.side=10", "options.pairs=[4,all]", "seed=[0,1]"]
    record = ran(tmp_path, LANDMARKS, *typed)
    assert record.arrays["shown_true"].shape[1] == 136
    assert set(record.cells.pairs) == {4, 12}
    assert str(root) not in str(record.config["data"]["content"])
    (root / "3.pts").unlink()
    with pytest.raises(UserError, match=r"3.jpg: no points beside it, 3.pts or .csv") as error:
        ran(tmp_path, LANDMARKS, *typed)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------- claims


def decisions(record):
    found = [verdicts.judge(claim, record, experiment=LANDMARKS, command="") for claim in ALL]
    return {verdict.claim.id: verdict.decision for verdict in found}


# Errors on 100, 676 and 3600 pairs: with what is known alone, and without it on 100.
HONEST = {
    "plain": (0.115, 0.097, 0.095),
    "in": (0.111, 0.0965, 0.095),
    "out": (0.110, 0.094, 0.0945),
    "in+out": (0.108, 0.0935, 0.094),
    "pretrained": (0.112, 0.0965, 0.096),
    "mean": (0.148, 0.148, 0.148),
    "ridge": (0.112, 0.101, 0.098),
    "components": (0.111, 0.101, 0.098),
}
WITHOUT = {"in": 0.113, "out": 0.112, "in+out": 0.11}
CONTROL = {"shuffled": 0.1125, "noise": 0.114, "untied": 0.115, "zero": 0.115}


@pytest.fixture
def record_with(small):
    def make(errors=(), without=(), controls=(), subspace=0.8, from_plain=0.0, reached=120, shift=0.0):
        rows = []

        def row(arm, extra, pairs, error):
            for seed in (0, 1, 2):
                rows.append({"arm": arm, "extra": extra, "pairs": pairs, "seed": seed, "diverged": False,
                             "error": error * (1 + 0.001 * seed), "from_plain": from_plain,
                             "subspace": 0.01 * (subspace if arm == "in+out" else 1 + 0.01 * seed)})  # fmt: skip

        for arm, values in (HONEST | dict(errors)).items():
            for pairs, value in zip((100, 676, 3600), values, strict=True):
                row(arm, arm in (*WITHOUT, "pretrained") and pairs < 3600, pairs, value)
        for arm, value in (WITHOUT | dict(without)).items():
            row(arm, False, 100, value)
        for arm, value in (CONTROL | dict(controls)).items():
            row(arm, True, 100, value)
        cells = pd.DataFrame(rows).rename_axis("cell").reset_index()
        curves = []
        for cell in cells[cells.arm.isin(["plain", "in+out"])].itertuples():
            for step in range(20, 401, 20):
                done = (step - 1) / 400
                near = step >= (reached + 20 * cell.seed if cell.arm == "in+out" else 320)
                curves.append({"cell": cell.cell, "step": step, "validation": 0.005 if near else 0.006,
                               "lambda_in": float(np.interp(done, [0.1, 0.5], [1, 0])) + shift,
                               "lambda_out": float(np.interp(done, [0.1, 0.7], [1, 0]))})  # fmt: skip
        made = Record(small.path)
        made.__dict__.update(
            config=small.config | {"scale": "cpu"}, cells=cells, curves=pd.DataFrame(curves),
            arrays={"instances": np.array([3600, 400, 1000])},
        )  # fmt: skip
        return made

    return make


def test_claims_on_an_honest_record(record_with):
    assert set(decisions(record_with()).values()) == {"holds"}


CONTROLLED = {
    "out_below_plain": {"errors": {"out": (0.110, 0.098, 0.0945)}},
    "both_no_worse_than_out": {"errors": {"in+out": (0.108, 0.0955, 0.094)}},
    "out_below_in": {"errors": {"in": (0.111, 0.0935, 0.095)}},
    "in_no_worse_than_plain": {"errors": {"in": (0.111, 0.0985, 0.095)}},
    "plain_below_mean": {"errors": {"plain": (0.149, 0.097, 0.095)}},
    "gain_shrinks": {"errors": {"out": (0.110, 0.094, 0.090)}, "without": {"out": 0.114}},
    "outputs_alone_help": {"without": {"out": 0.109}},
    "shuffled_outputs_do_not": {"controls": {"shuffled": 0.110}},
    "inputs_alone_help": {"without": {"in": 0.110}},
    "noise_inputs_do_not": {"controls": {"noise": 0.111}},
    "untied_is_plain": {"from_plain": 1e-9},
    "zero_is_plain": {"from_plain": 1e-9},
    "schedules": {"shift": 1e-4},
    "trains_faster": {"reached": 340},
    "nearer_to_true_shapes": {"subspace": 1.1},
    "below_linear": {"errors": {"components": (0.111, 0.093, 0.098)}},
    "no_worse_than_pretraining": {"errors": {"pretrained": (0.112, 0.092, 0.096)}},
}


@pytest.mark.parametrize("claim", CONTROLLED)
def test_a_wrong_record_fails(record_with, claim):
    assert decisions(record_with(**CONTROLLED[claim]))[claim] == "fails"


def test_every_claim_has_a_control():
    assert set(CONTROLLED) == {claim.id for claim in ALL}
    for name in (LANDMARKS, DIGITS):
        stated = Experiment(module_of(name)).claims
        assert {claim.id for claim in stated} <= set(CONTROLLED)
        assert all(claim.departs in ((), (name,)) and bool(claim.caveat) == bool(claim.departs) for claim in stated)


def test_a_network_that_diverged_is_no_measurement(record_with):
    record = record_with()
    record.cells.loc[(record.cells.arm == "out") & (record.cells.seed == 1), "diverged"] = True
    assert decisions(record)["out_below_plain"] != "holds"


# ---------------------------------------------------------------------- arms, controls and baselines


def known(pairs, rest):
    order = torch.arange(pairs + rest)
    return Choice(order[:pairs], order[pairs : pairs + rest // 2], order[pairs + rest // 2 :])


def test_shuffled_outputs_keep_every_dimension_and_no_structure():
    outputs = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    outputs[:, 1] = outputs[:, 0]
    found = arms.shuffled(outputs, 0)
    torch.testing.assert_close(found.sort(0).values, outputs.sort(0).values, atol=0, rtol=0)
    assert abs(float(torch.corrcoef(found.mT)[0, 1])) < 0.2
    assert not torch.equal(found, arms.shuffled(outputs, 1))
    noise = arms.noise(outputs, 0)
    assert noise.shape == outputs.shape
    assert 0 <= float(noise.min()) < float(noise.max()) < 1


def test_arms_weigh_their_own_costs():
    config = settings.load([f"experiment={LANDMARKS}", *SMALL])
    found = {arm: arms.weights_of(arm, 100, config) for arm in ("plain", "in", "out", "in+out", "untied", "zero")}
    assert {arm: tuple((w.sum(0) > 0).tolist()) for arm, w in found.items()} == {
        "plain": (True, False, False), "in": (True, True, False), "out": (True, False, True),
        "in+out": (True, True, True), "untied": (True, False, True), "zero": (True, False, False),
    }  # fmt: skip
    first, then = arms.weights_of("pretrained", 100, config).split([30, 70])
    assert first.unique(dim=0).tolist() == [[0.0, 1.0, 1.0]]
    assert then.unique(dim=0).tolist() == [[1.0, 0.0, 0.0]]


def test_jobs_train_every_arm_once():
    work = arms.jobs([20, 100], 100, controls=True)
    rows = [(job.pairs, arm, extra) for job in work for arm, extra in job.arms]
    assert len(rows) == len(set(rows)) == (8 + 4) + 5
    assert sizes(("all", 5, 100), 100) == [5, 100]
    assert (compared([5, 100], 100), compared([100], 100), compared([5, 20], 100)) == (5, 100, 20)


def test_baselines_are_ridge_regressions():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(120, 5, generator=generator)
    y = x[:, :2] @ torch.randn(2, 6, generator=generator) + 0.01 * torch.randn(120, 6, generator=generator)
    parts = [Part(x[rows], y[rows]) for rows in (slice(0, 60), slice(60, 90), slice(90, 120))]
    data = Pairs(*parts, shape=(1, 5))
    found = baselines.predicted(data, known(40, 20), pixel_errors)
    X, Y = x[:40].double(), y[:40].double()
    torch.testing.assert_close(found["mean"], Y.mean(0).expand(30, -1))
    centred = X - X.mean(0)
    candidates = []
    for penalty in baselines.PENALTIES:
        W = torch.linalg.solve(centred.mT @ centred + penalty * torch.eye(5), centred.mT @ (Y - Y.mean(0)))
        prediction = {
            part: Y.mean(0) + (rows.double() - X.mean(0)) @ W for part, rows in (("v", x[60:90]), ("t", x[90:]))
        }
        candidates.append((float(pixel_errors(prediction["v"], y[60:90].double()).mean()), prediction["t"]))
    torch.testing.assert_close(found["ridge"], min(candidates, key=lambda one: one[0])[1])
    ranks = torch.linalg.matrix_rank(found["components"] - y[:60].double().mean(0), atol=1e-6)
    assert int(ranks) <= 4  # of 1, 2, 4 components


def test_the_subspace_of_true_outputs():
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    outputs = torch.randn(500, 2, generator=generator, dtype=torch.float64) @ axes[:2] * 5 + 3
    subspace = baselines.Subspace(outputs)
    assert len(subspace.axes) == 2
    assert float(subspace.distance(outputs)) < 1e-6
    assert float(subspace.distance(outputs + 0.6 * axes[3])) == pytest.approx(0.6 / 6**0.5, rel=1e-6)


def test_errors():
    one, other = torch.zeros(2, 4), torch.full((2, 4), 0.5)
    torch.testing.assert_close(pixel_errors(one, other), torch.tensor([0.5, 0.5]))
    assert float(landmark_errors(torch.zeros(6), torch.tensor([0.0, 0, 3, 0, 3, 4]))) == pytest.approx(8 / 3 / 5)


# ---------------------------------------------------------------------- settings


def test_the_authors_protocol_is_the_gpu_scale():
    config = settings.load([f"experiment={LANDMARKS}", "scale=gpu", "device=cpu"])
    training, model = config.training, config.model
    assert (training.epochs, training.steps, training.batch_size, training.full_rate) == (1000, None, 10, 1.0)
    assert (training.optimizer, training.learning_rate, training.momentum) == ("sgd", 1e-3, 0.9)
    assert (training.cost, training.decay, training.move, training.shuffle) == ("sum", 1e-2, "separate", False)
    assert (training.inputs.begin, training.inputs.end, training.outputs.end) == (0.1, 0.5, 0.7)
    assert (model.hidden, model.activations) == ((1025, 512, 64), ("sigmoid", "sigmoid", "tanh", "tanh"))
    assert model.corruption == 0.2
    sizes_of = (config.data.side**2, *model.hidden, 136)
    assert sum((a + 1) * b for a, b in pairwise(sizes_of)) == 3_130_509
    assert len(config.seed) >= 5


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("options.pairs=[1]", "options.pairs=1: must be at least 2"),
        ("options.pairs=[every]", "options.pairs"),
        ("options.pairs=[100,100]", "options.pairs=[100,100]: names 100 twice"),
        ("data=half_digits", "data.kind=half_digits: structured_output_landmarks takes data=digit_contours, landmarks"),
        ("data=landmarks", "data.root=null: data=landmarks needs the folder of the pictures"),
        ("model=mlp", "model.kind=mlp: structured_output_landmarks takes model=structured_output"),
        ("dropout=gaussian", "dropout=gaussian: has no effect here, costs of auto-encoders take its place"),
        ("training.momentum=0.5", "training.momentum=0.5: has no effect here, Adam has its own"),
        ("training.epochs=3", "training.steps: training.steps=400 and training.epochs=3: one of them must be a number"),
        ("model.hidden=[9]", "model.hidden=[9]: must have 2 or more values"),
    ],
)
def test_mistakes_are_told_before_anything_runs(typed, message, told):
    assert told(f"experiment={LANDMARKS}", typed, "scale=cpu", "device=cpu").startswith(message)


def test_more_pairs_than_there_are_is_told(tmp_path):
    with pytest.raises(UserError, match=r"options.pairs=5000: must be at most 3600, the pairs there are to train on"):
        ran(tmp_path, LANDMARKS, "options.pairs=5000")
