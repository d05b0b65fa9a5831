"""Dropout and nuclear norm regularization (Mianjy & Arora 2019): dropout on every layer of a deep linear network."""
