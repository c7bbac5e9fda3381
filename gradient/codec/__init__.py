"""Lossless compression of chunks: buffers in, buffers out. No torch, no I/O."""
