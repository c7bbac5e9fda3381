"""The object database over one storage: packs, index, refs. No torch."""
