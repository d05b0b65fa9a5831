"""python scripts/export.py [table=ledger] [experiment=NAME] [key=value ...] [columns=a,b] [out=FILE]
python scripts/export.py table=cells|curves|runs experiment=NAME [column=value ...] [columns=a,b] [out=FILE]

Writes the ledger of claims, with overrides as for report.py, or those rows of an experiment's records that have the
values asked for (column=[a,b], or a key of the configuration), as CSV, Markdown and LaTeX to RESULTS/tables/, or to
out=FILE.csv|.md|.tex. Never trains.
"""

import sys

from repro.pipeline import cli
from repro.pipeline.presentation import commands

if __name__ == "__main__":
    sys.exit(cli.over_all(commands.export, __doc__))
