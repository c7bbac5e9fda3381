"""Files for other tools, derived from commits. They are never an input, and can be rebuilt."""
