"""Nguyen et al. (NeurIPS 2021), Structured Dropout Variational Inference for Bayesian Neural Networks."""

from repro.pipeline.paper import Paper

PAPER = Paper(
    title="Structured Dropout Variational Inference for Bayesian Neural Networks",
    reference="Nguyen, Nguyen, Nguyen, Than, Bui, Ho, NeurIPS 2021, arXiv 2102.07927",
    finding="Gaussian dropout whose noise learns a rotation is a richer posterior: each reflection closes a part of "
    "the gap between the evidence and its bound.",
    formula=r"W = \mathrm{diag}(z)\,\Theta,\quad z = \mathbf{1} + U\,\mathrm{diag}(\sqrt{\alpha})\,\varepsilon,"
    r"\quad U = H_T\cdots H_1",
    picture="structured_posterior/gap",
)
