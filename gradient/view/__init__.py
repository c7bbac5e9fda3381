"""Files for other tools, derived from commits: never an input, always rebuildable."""
