"""python scripts/reproduce_all.py [experiment=NAME,NAME] [key=value ...]

Runs every experiment (conf/experiment/) that is not recorded yet, with the same overrides for each, and
draws all figures into results/figures/.
"""

import sys

from repro import cli

if __name__ == "__main__":
    sys.exit(cli.reproduce_all(__doc__))
