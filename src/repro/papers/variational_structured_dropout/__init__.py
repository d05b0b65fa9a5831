"""Nguyen et al. (NeurIPS 2021), Structured Dropout Variational Inference for Bayesian Neural Networks."""
