"""What else answers beside models: a sandbox for programs, toolboxes for calls."""
