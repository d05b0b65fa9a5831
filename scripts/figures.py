"""python scripts/figures.py [experiment=NAME] [key=value ...]

Draws the figures of all experiments, or of the named one, from their records into
results/figures/. Never trains.
"""

import gc
import sys

from repro.pipeline import cli
from repro.pipeline.presentation import commands

# Figures are millions of small objects in use: looking among them for garbage takes a tenth of the time. The processes
# that draw side by side read this file as well.
gc.set_threshold(100_000)

if __name__ == "__main__":
    sys.exit(cli.over_all(commands.figures, __doc__))
