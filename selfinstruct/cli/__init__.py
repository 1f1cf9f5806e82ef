"""The command line: the only place that reads flags and draws. One file to a group of commands."""
