"""Importers of other programs' checkpoints. Everything is read as data, and none of it is run."""
