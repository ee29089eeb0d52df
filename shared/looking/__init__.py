"""Looking: what Defender holds now, for people and tools; within a share of the list calls that publishing spares."""
