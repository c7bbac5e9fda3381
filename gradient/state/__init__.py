"""The state of a run: live torch objects to plain nested data, and back. No file access."""
