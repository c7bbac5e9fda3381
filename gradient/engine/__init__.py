"""The engine that a training loop holds (attach, commit, resume, fork), and its parts."""
