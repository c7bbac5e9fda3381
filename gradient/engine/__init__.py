"""What does a training loop hold? attach, commit, resume, fork: the engine and its parts."""
