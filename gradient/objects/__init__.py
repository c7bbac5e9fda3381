"""The stored objects: immutable values with a canonical form. Bytes in, bytes out; no I/O, no
torch.
"""
