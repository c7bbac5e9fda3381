"""Where do named bytes live? Durable write, list, read, put-if-absent; no object is known here."""
