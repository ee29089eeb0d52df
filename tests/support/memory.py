"""Storage in memory for tests; see local/virtual/stores.py."""

from local.virtual.stores import Gate, Killed, MemoryBlobs, MemoryQueue, MemoryTables, Service, open_gate

__all__ = ["Gate", "Killed", "MemoryBlobs", "MemoryQueue", "MemoryTables", "Service", "open_gate"]
