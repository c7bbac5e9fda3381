"""Importing the history of a repo of the published gradient-desc (up to 0.1.17).

In such a repo, ``manifest.json`` lists the checkpoints, and each is one ``.pt`` file. An *anchor*
holds the whole state. A *delta* holds the differences from an anchor's tensors, rounded to half
precision. A delta is imported as that package would restore it, bit for bit. That state is not the
trained one, and the commit records this (``lossy``).

The manifest has only refs ``branch@step`` and, for a fork's first commit, its source. The commits
of a branch are therefore ordered by step, and a branch starts at its source.
"""
