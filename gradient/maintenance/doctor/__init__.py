"""Checks whether the file system under a folder keeps the promises that the store relies on."""
