"""Wang, Zhang, Wang, Hu (2019), on pruning by penalties that grow."""

from repro.pipeline.paper import Paper

PAPER = Paper(
    title="Structured Deep Neural Network Pruning by Varying Regularization Parameters",
    reference="Wang, Zhang, Wang, Hu, JSTSP 2019, arXiv 1804.09461",
    finding="Each group of weights has a penalty of its own, which grows or shrinks with the group's rank until it "
    "goes or comes back: pruning that is gentle, and networks that are smaller and faster in fact.",
    formula=r"\Delta\lambda_g = A\,e^{-\alpha j_g}\;\;(j_g < N_1),"
    r"\qquad 2uA - A\,e^{-\alpha(2N_1-j_g)}\;\;(j_g \ge N_1),\qquad \alpha = \frac{\log(2/u)}{K}",
    picture="incremental_schedule/paths",
)
