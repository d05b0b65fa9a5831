"""What the models of one kind of experiment share of their settings."""

from repro.pipeline.settings import Count, Model


class DeepNetwork(Model):
    """A network whose last layer is linear on `width` units, the last hidden layer, where dropout is.

    `embedding`: these units are linear too and take any sign; without it they are not negative, and a unit serves one
    class. `head_bias` gives the last layer a bias, which no dropout reaches.
    """

    width: Count
    embedding: bool = True
    head_bias: bool = False
