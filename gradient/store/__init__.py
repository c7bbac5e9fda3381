"""The object database over one storage: packs, indexes, refs, leases, retention. No torch."""
