"""python scripts/report.py [experiment=NAME] [key=value ...]

Judges the claims of all experiments, or of the named one, on their records, prints the ledger and writes
results/report.html, of a named one results/report-NAME.html beside it. Never trains. Exit code 1 where a claim fails
that is not known to.
"""

import gc
import sys

from repro.pipeline import cli
from repro.pipeline.presentation import commands

# Figures are millions of small objects in use: looking among them for garbage takes a tenth of the time.
gc.set_threshold(100_000)

if __name__ == "__main__":
    sys.exit(cli.over_all(commands.report, __doc__))
