"""LeJeune, Javadi, Baraniuk (2021), on the duality of adaptive dropout and penalties."""

from repro.pipeline.paper import Paper

PAPER = Paper(
    title="The Flip Side of the Reweighted Coin: Duality of Adaptive Dropout and Regularization",
    reference="LeJeune, Javadi, Baraniuk, NeurIPS 2021, arXiv 2106.07769",
    finding="Dropout whose rates follow the weights is a penalty that favours zeros: every strategy for the rates "
    "integrates to one, and training under its masks ends where that penalty's minimum is.",
    formula=r"\lambda\,\Omega(w) = \min_{\eta}\; \tfrac{\lambda}{2}\Big(\tfrac{w^2}{\eta}+f(\eta)\Big),"
    r"\qquad \alpha(w) = \frac{\hat\eta(w)}{\hat\eta(w)+\lambda}",
    picture="adaptive_penalties/duality",
)
