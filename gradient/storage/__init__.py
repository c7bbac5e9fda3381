"""Where are named bytes kept? Durable write, list, read, put-if-absent; it knows no objects."""
