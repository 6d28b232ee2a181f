"""`python -m engine.cli`: the `walras` command without its script, for child processes."""

import sys

from engine.cli.main import main

sys.exit(main())
