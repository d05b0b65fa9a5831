"""Formulas of texts as MathML: what is set, and what stays a word."""

import re

import pytest

from repro.pipeline.composition import files
from repro.pipeline.experiment import experiment
from repro.pipeline.presentation.mathml import display, inline
from repro.pipeline.settings import load


def plain(html):
    """Formulas in brackets, without tags; scripts after _ and ^."""
    html = re.sub(r"<msub>(.*?)</msub>", r"\1", str(html))
    return re.sub(r"<math.*?>(.*?)</math>", r"[\1]", html)


def formulas_of(text):
    return re.findall(r"<math.*?</math>", str(inline(text)))


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("the squared ‖A‖²_(r) of it", ["msubsup"]),
        ("each U_iV_iᵀX of them", ["msub", "msubsup"]),
        ("W_{L+1}D_L⋯W_1X", ["msub"]),
        ("with λ = (1 − p)/p.", ["mo"]),
        ("below 1e-3 ≤ x", ["msup"]),
        ("over α_min / ᾱ here", ["mover", "msub"]),
        ("half: ½ log det Λ", ["mfrac"]),
        ("a rate θ alone", ["mi"]),
        ("of Σ_ij C̄_ij ⟨u_i, u_j⟩ and", ["mover", "munder|msub"]),
    ],
)
def test_formulas_are_set(text, tags):
    (formula,) = formulas_of(text)
    assert all(re.search(f"<({tag})", formula) for tag in tags)
    assert "merror" not in formula


@pytest.mark.parametrize(
    "text",
    [
        "block_size, singular_values and 95 % of 1,000 images",
        "A claim of a paper",
        "SGD and L-BFGS, E4; paper section 1",
        "3×3 squares of a 7×7 map",
        "an open (bracket of λ and text",
    ],
)
def test_words_stay(text):
    assert [formula for formula in formulas_of(text) if "λ" not in text] == []
    assert "bracket" not in "".join(formulas_of(text))


def test_signs_are_escaped_and_code_is_code():
    assert inline("`model.width_x2` <script> & more") == "<code>model.width_x2</code> &lt;script&gt; &amp; more"
    assert inline("where `a < b` holds") == "where <code>a &lt; b</code> holds"


@pytest.mark.parametrize("name", files.experiments())
def test_no_text_of_ours_breaks(name):
    shows = experiment(load([f"experiment={name}", "scale=smoke"]))
    texts = [shows.about, *shows.captions.values()]
    texts += [text for c in shows.claims for text in (c.statement, c.quantity, c.because, c.caveat, c.source)]
    page = " ".join(map(inline, texts))
    assert "merror" not in page
    assert re.sub(r"<math.*?</math>", "", page).count("ᵀ") == 0
    if shows.paper:
        assert "merror" not in display(shows.paper.formula)
