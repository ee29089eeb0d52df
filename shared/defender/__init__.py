"""Defender's indicators API: the client, what its answers mean, its limits."""
