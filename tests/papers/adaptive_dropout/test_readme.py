"""The example in the paper's README: a strategy of one's own in ten lines gives its penalty."""

import re
from pathlib import Path

import torch

import repro.papers.adaptive_dropout as paper

README = Path(paper.__file__).with_name("README.md").read_text(encoding="utf-8")


def test_the_example_of_ones_own_strategy(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    space: dict = {}
    exec(code, space)
    assert "tensor([0.0000" in capsys.readouterr().out
    w, found = space["w"], space["effective_penalty"](space["cautious"], space["w"], weight=0.5)
    v = torch.linspace(0, 2, 200_001, dtype=torch.float64)
    alpha = space["cautious"](v - 1e-12 * (v == 2))
    brute = torch.cumulative_trapezoid(v * (1 - alpha) / alpha, v) / 0.5
    expected = [float(brute[min(round(float(x) * 1e5), 200_000) - 1]) if x else 0.0 for x in w]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)


def test_every_file_that_it_names_is_there():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if not link.startswith(("http", "../../../../results")):
            assert (Path(paper.__file__).parent / link).exists(), link
