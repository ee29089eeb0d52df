"""Virtual time for tests; see local/virtual/loop.py."""

from local.virtual.loop import START, VirtualClock, VirtualLoop, run, service_now

__all__ = ["START", "VirtualClock", "VirtualLoop", "run", "service_now"]
