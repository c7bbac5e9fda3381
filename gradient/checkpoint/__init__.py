"""One state as one tree of objects, and back. Only this package converts tensors to objects."""
