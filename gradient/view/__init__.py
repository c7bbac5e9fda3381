"""What do other tools open? Files derived from commits: never an input, always rebuildable."""
