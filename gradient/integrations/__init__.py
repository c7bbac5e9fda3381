"""Other programs' checkpoints and loops: what comes in is read as data, never run."""
