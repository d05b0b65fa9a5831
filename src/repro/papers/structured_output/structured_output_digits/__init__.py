"""Do networks complete digits better that also learn what lower halves there are?

The lower half of a digit, 392 pixels, from the upper half, by the arms of `structured_output_landmarks`. `data=rings`
has masks of textured rings in their place.
"""

from repro.papers.structured_output.claims import stated
from repro.papers.structured_output.settings import Options, PictureConfig

__all__ = ["CAPTIONS", "CLAIMS", "Config", "Options"]


class Config(PictureConfig):
    options: Options


CLAIMS = stated(
    "structured_output_digits",
    {},
    only=(
        "out_below_plain", "plain_below_mean", "outputs_alone_help", "shuffled_outputs_do_not", "nearer_to_true_shapes",
        "below_linear",
    ),
)  # fmt: skip

CAPTIONS = {
    "pairs": "Left: root mean square error of pixels, where white is 1, mean and 95 % interval over seeds. Middle: by "
    "how much less it is than the plain network's of the same seed. Right: what digits known by one half alone add, "
    "and what the controls add in their place.",
    "distribution": "Share of test digits with at most this error, mean over seeds; below, less the plain network's.",
    "training": "Error on the validation set along training, mean ± one standard deviation over seeds.",
    "weights": "Importance weights at the checks, on their schedules.",
    "completed": "Digits that +in+out completes best, as the median, and worst: above the line what is given, below it "
    "the truth and what is predicted.",
}
"""What to look for in each figure."""
