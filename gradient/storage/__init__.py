"""Named bytes: durable write, list, read, put-if-absent. It does not know objects."""
