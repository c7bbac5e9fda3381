"""What is stored? Immutable values with a canonical byte form: bytes in, bytes out, no I/O, no torch."""
