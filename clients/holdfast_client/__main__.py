"""`python -m holdfast_client`: the command line without its script."""

import sys

from holdfast_client.cli import main

sys.exit(main())
