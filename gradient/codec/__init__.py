"""Compression of chunks: buffers in, buffers out. No torch, no I/O; every mode is lossless."""
