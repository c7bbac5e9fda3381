"""What is stored? Immutable values with a canonical form: bytes in, bytes out, no I/O, no torch."""
