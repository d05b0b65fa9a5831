"""Dropout and nuclear norm regularization (Mianjy & Arora 2019): dropout on every layer of a deep linear network."""

from repro.pipeline.paper import Paper

PAPER = Paper(
    title="On Dropout and Nuclear Norm Regularization",
    reference="Mianjy, Arora, ICML 2019, arXiv 1905.11887",
    finding="Dropout on every hidden layer of a deep linear network penalises at least the squared nuclear norm of "
    "what it computes, the more the deeper and the narrower it is: its rank falls to 1 at a rate that theory names.",
    formula=r"\mathbb{E}\,\|Y-W_{L+1}D_L\cdots D_1W_1X\|_F^2 \;\geq\; \|Y-A\|_F^2 + \nu\,\|A\|_*^2,"
    r"\qquad \nu = \prod_{i}\Big(1+\tfrac{1-\theta_i}{\theta_i d_i}\Big)-1",
    picture="deep_linear_collapse/collapse",
)
