"""Benchmarks, each against its limit, its goal and, where there is one, a peer's way of doing it."""
