"""Who are we to a server elsewhere? Tokens, and requests that carry them; torch is never needed."""
