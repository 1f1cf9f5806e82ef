"""What a test asks of a ledger that nothing in the package asks."""

from __future__ import annotations

from selfinstruct.store.ledger import Ledger


def count(ledger: Ledger, table: str, where: str = "1") -> int:
    """How many rows of a table or view meet a condition."""
    [[rows]] = ledger.query(f"SELECT count(*) FROM {table} WHERE {where}")
    return int(rows)
