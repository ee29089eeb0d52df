"""A peer of the relay's queue function: the least that a function with a ledger would do."""
