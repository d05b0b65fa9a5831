"""On the regularization properties of structured dropout (Pal, Lane, Vidal, Haeffele 2020)."""

from repro.pipeline.paper import Paper

PAPER = Paper(
    title="On the Regularization Properties of Structured Dropout",
    reference="Pal, Lane, Vidal, Haeffele, CVPR 2020, arXiv 1910.14186",
    finding="Dropping blocks of r hidden units of a linear network penalises the squared spectral r-support norm of "
    "what it computes: the fewer units are kept and the smaller the blocks, the lower its rank.",
    formula=r"\min_{U,V}\; \mathbb{E}_z\|Y-\tfrac{1}{\theta}U\,\mathrm{diag}(z)V^\top X\|_F^2"
    r" = \min_A\; \|Y-A\|_F^2 + \tfrac{1-p}{p}\,\|A\|_{(r)}^2",
    picture="rank_collapse/collapse",
)
