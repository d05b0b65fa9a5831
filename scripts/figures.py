"""python scripts/figures.py [experiment=NAME] [key=value ...]

Draws the figures of all experiments, or of the named one, from their records into
results/figures/. Never trains.
"""

import sys

from repro import cli

if __name__ == "__main__":
    sys.exit(cli.figures(__doc__))
