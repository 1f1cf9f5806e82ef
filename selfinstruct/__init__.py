"""Turns a handful of seed tasks into a large, diverse, explained instruction dataset; see `selfinstruct --help`."""

import logging

# The library is silent unless whoever uses it listens; on the command line `-v` and `--debug` do.
logging.getLogger(__name__).addHandler(logging.NullHandler())
