"""How does a run end when its job is about to be ended? Signals, and the agreement of all ranks."""
