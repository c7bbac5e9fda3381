"""The history of a repo that the published gradient-desc (up to 0.1.17) wrote.

There, ``manifest.json`` lists the checkpoints and each is one ``.pt`` file: an *anchor* holds the
whole state, a *delta* holds what to add to an anchor's tensors, rounded to half precision. A delta
is taken over as that package would restore it, so bit for bit; but what it would restore is not
what was trained, and the commit says so (``lossy``).

Only refs ``branch@step`` and, for a fork's first commit, its source are recorded there. So a
branch's commits follow each other by step, and a branch begins at its source.
"""
