"""``python -m pvops``."""

import sys

from pvops.cli import command

sys.exit(command())
