"""How does a chunk shrink? Buffers in, buffers out; no torch, no I/O, lossless in every mode."""
