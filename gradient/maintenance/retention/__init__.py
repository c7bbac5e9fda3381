"""Applying the rules of retention: the plan, and `gradient forget` (order: `repo.retention`)."""
