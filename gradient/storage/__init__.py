"""Where do named bytes live? Durable write, list, read, put-if-absent; nothing here knows an object."""
