"""The ledger of a run: one SQLite file that holds everything, and the lock that keeps a run to one process."""
