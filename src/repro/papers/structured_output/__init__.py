"""Belharbi, Hérault, Chatelain, Adam (2018), networks that learn the structure of their outputs."""

from repro.pipeline.paper import Paper

PAPER = Paper(
    title="Deep Neural Networks Regularization for Structured Output Prediction",
    reference="Belharbi, Hérault, Chatelain, Adam, Neurocomputing 2018, arXiv 1504.07550",
    finding="An auto-encoder of the outputs that shares the network's last layers teaches it how outputs hang "
    "together, from outputs whose inputs nobody has: lower errors where pairs are few.",
    formula=r"J = \lambda_{\mathrm{sup}}\sum_{S} C(M(x_i), y_i)"
    r" + \lambda_{\mathrm{in}}\sum_{F} C(R_{\mathrm{in}}(x_i), x_i)"
    r" + \lambda_{\mathrm{out}}\sum_{L} C(R_{\mathrm{out}}(y_i), y_i)",
    picture="structured_output_landmarks/pairs",
)
