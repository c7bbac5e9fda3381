"""Ids, canonical JSON, trees, commits: immutable values, bytes in and out; no I/O, no torch."""
