"""Named bytes: durable write, list, read, put-if-absent. It knows no objects."""
