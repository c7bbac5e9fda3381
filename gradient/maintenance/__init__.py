"""The health and the size of a repo, and what may be removed from it. torch is never needed."""
