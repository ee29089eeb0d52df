"""Finding what was submitted: by incident, source, caller, time or value; and what became of it."""
