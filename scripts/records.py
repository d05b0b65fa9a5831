"""Records: list, verify, diff, prune.

python scripts/records.py list                       what there is, and what is damaged or of other code
python scripts/records.py verify                     every record against its checksums
python scripts/records.py diff 4b84 91cc             the settings in which two records differ
python scripts/records.py prune                      remove what killed processes left
"""

import sys

from repro.pipeline.presentation import inventory

if __name__ == "__main__":
    sys.exit(inventory.command(__doc__))
