from repro.data.digit_halves.load import digits
from repro.data.half_digits import Settings
from repro.data.pairs import Read


def load(settings: Settings) -> Read:
    pixels = digits(settings.source, settings.root).flatten(1).float() / 255
    return Read(pixels[:, :392], pixels[:, 392:], (14, 28))
