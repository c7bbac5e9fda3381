"""Access tokens, and the requests that carry them. No torch."""
