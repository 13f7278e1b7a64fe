"""``python -m pvops``."""

import sys

from pvops.cli import main

sys.exit(main())
