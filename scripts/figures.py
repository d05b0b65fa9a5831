"""python scripts/figures.py [experiment=NAME] [key=value ...]

Draws the figures of all experiments, or of the named one, from their records into
results/figures/. Never trains. Beside the keys that choose a record:

  figure.width=3.3          inches; panels wrap at it
  figure.font=9             points
  figure.titles=false       no titles and no notes above the panels; the notes are printed
  figure.style=FILE         a Matplotlib style file (.mplstyle), or the name of a style of Matplotlib's, on top of ours;
                            its colours (axes.prop_cycle) are taken
  figure.only=[NAME,...]    these figures alone
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
