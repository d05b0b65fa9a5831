"""What networks of plain convolutions share of their settings."""

from repro.pipeline.settings import Count, Model


class Convolutional(Model):
    """Convolutions of `channels` filters each; `build` takes the images' `size` too, as the last layer needs it."""

    channels: tuple[Count, ...]
