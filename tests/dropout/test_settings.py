"""What may be asked of a noise, and what its settings make of it."""

import subprocess
import sys

import pytest

from repro import dropout
from repro.dropout.settings import Dropout, Noise
from repro.pipeline.settings import implementation, ours

SCHEMES = [
    *("bernoulli", "dropblock", "dropconnect_U", "dropconnect_V"),
    *("gaussian", "overlapping_dropblock", "structured"),
]
OF_STRUCTURED = ["noise_mean", "reflections", "rotation_seed", "spread"]


def settings(scheme, **changes) -> Dropout:
    return Dropout.model_validate({"scheme": scheme, "block_size": [1, 4], "p": None, "retain": [0.5, 0.8]} | changes)


def masks(noise: Noise, block_size=2):
    return implementation(noise, "masks")(noise, 8, block_size, 0.5, outputs=5, inputs=7)


def test_every_scheme_is_found_and_has_its_distribution():
    assert list(ours("dropout")) == SCHEMES
    assert [masks(noise) for noise in settings(SCHEMES, correlation=0.3).noises()] == [
        dropout.Bernoulli(8, 0.5),
        dropout.DropBlock(8, 2, 0.5),
        dropout.DropConnect(5, 8, 0.5, "U"),
        dropout.DropConnect(7, 8, 0.5, "V"),
        dropout.CorrelatedGaussian(8, 0.5, 0.3),
        dropout.OverlappingDropBlock(8, 2, 0.5),
        masks(settings("structured").noises()[0]),
    ]
    assert isinstance(masks(settings("structured").noises()[0]), dropout.StructuredGaussian)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_settings_say_what_the_masks_do(scheme):
    (noise,) = settings(scheme).noises()
    assert noise.target == masks(noise).target
    by_size = [masks(noise, size) for size in (2, 4)]
    assert (noise.blocks == "none") == (by_size[0] == by_size[1])


def test_public_names_come_when_asked_for():
    assert dropout.MaskDistribution in dropout.Bernoulli.__mro__
    with pytest.raises(AttributeError, match="no attribute Bernouli"):
        dropout.Bernouli  # noqa: B018


def test_the_grid_is_the_product_of_what_is_listed():
    points = list(settings(["dropblock", "bernoulli"]).points())
    assert [(noise.scheme, size, rate) for noise, size, rate in points] == [
        ("dropblock", 1, 0.5),
        ("dropblock", 1, 0.8),
        ("dropblock", 4, 0.5),
        ("dropblock", 4, 0.8),
        ("bernoulli", 1, 0.5),
        ("bernoulli", 1, 0.8),
    ]
    assert settings("bernoulli", retain=None, p=0.3).rates() == (0.3,)


def test_what_has_no_effect_is_left_out_and_named():
    plain = settings("bernoulli", block_size=4, correlation=0.8)
    assert plain == settings("bernoulli")
    assert plain.model_dump() == {"scheme": ("bernoulli",), "block_size": (1,), "p": None, "retain": (0.5, 0.8)}
    assert plain.ignored() == {
        "dropout.block_size": "no blocks in bernoulli",
        "dropout.correlation": "not a parameter of bernoulli",
        **{f"dropout.{name}": "not a parameter of bernoulli" for name in OF_STRUCTURED},
    }
    others = {f"dropout.{name}" for name in OF_STRUCTURED}
    assert set(settings("gaussian").ignored()) == {"dropout.block_size"} | others
    assert set(settings("dropblock").ignored()) == {"dropout.correlation"} | others
    assert settings(["bernoulli", "gaussian", "dropblock", "structured"]).ignored() == {}
    assert settings(["bernoulli", "dropblock"], block_size=4).block_size == (4,)


def test_a_parameter_left_out_is_the_same_as_its_default():
    assert settings("gaussian").model_dump()["correlation"] == 0.0
    assert settings("gaussian") == settings("gaussian", correlation=0) != settings("gaussian", correlation=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheme": "foo"}, f"dropout.scheme=foo: must be one of {', '.join(SCHEMES)}; no Python"),
        ({"scheme": ["dropblock", "bernouli"]}, "dropout.scheme=bernouli: must be one of .*; did you mean bernoulli"),
        ({"scheme": "json.decoder"}, "dropout.scheme=json.decoder: must be one of"),
        ({"scheme": []}, "at least 1 item"),
        ({"strength": 1.0}, "dropout.strength: unknown key; --help lists all keys"),
        (
            {"scheme": "gaussian", "correlaton": 0.1},
            r"dropout.correlaton: unknown key; did you mean dropout.corr",
        ),
        ({"scheme": "gaussian", "correlation": 1.0}, r"(?s)correlation.*must lie in \(-1, 1\)"),
        ({"p": 0.5}, "p and retain are both given, and one follows from the other; leave one out"),
        ({"retain": None}, r"neither p nor retain is given; set one of them to a number in \(0, 1\)"),
        ({"retain": 1.0}, r"(?s)retain.*must lie in \(0, 1\)"),
        ({"block_size": [2, 2]}, "names 2 twice"),
        ({"block_size": 0}, "greater than or equal to 1"),
    ],
)
def test_mistakes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**{"scheme": "dropblock"} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheme": "dropblock"}, "dropout.block_size=4: must divide model.width=6; allowed: 1, 2, 3, 6"),
        ({"scheme": "overlapping_dropblock", "block_size": 7}, "dropout.block_size=7: must be at most model.width=6"),
        ({"scheme": "overlapping_dropblock", "p": 0.5, "retain": None}, "must divide model.width=6"),
        ({"scheme": "overlapping_dropblock"}, None),
        ({"scheme": "bernoulli", "block_size": 7}, None),
    ],
)
def test_blocks_must_fit_the_width(changes, message):
    chosen = settings(**changes)
    chosen.fit(8 if message is None else 24)
    if message is not None:
        with pytest.raises(ValueError, match=message):
            chosen.fit(6)


MINE = """
from repro.dropout.distribution import MaskDistribution
from repro.dropout.settings import Noise

class Settings(Noise):
    scheme: str
    strength: float

def masks(settings, width, block_size, retain, outputs, inputs):
    return settings.strength, width
"""


def test_a_noise_of_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "my_noise.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    chosen = settings(["bernoulli", "my_noise"], strength=2.5)
    bernoulli, mine = chosen.noises()
    assert masks(mine) == (2.5, 8)
    assert masks(bernoulli) == dropout.Bernoulli(8, 0.5)
    assert chosen.model_dump()["strength"] == 2.5
    with pytest.raises(ValueError, match=r"(?s)strength.*Field required"):
        settings("my_noise")


def test_settings_need_no_torch():
    script = "import sys; from repro.pipeline.settings import ours; ours('dropout'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "pydantic" in loaded
    assert not {"torch", "scipy"} & {*loaded}
