"""Training: the batched sweep engine for linear networks and the solver for their global minimum."""
