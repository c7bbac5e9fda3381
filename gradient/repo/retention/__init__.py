"""Retention: which commits keep their states, and what is left of the others.

Rules keep commits, a plan drops the states of the rest, and `gradient forget` applies it. In the
order of a `gradient forget`:

1. `rules`: the rules as a user writes them (`Keep`).
2. `maintenance.retention.plan`: applies the rules to a repo; each kept commit gets its reasons.
3. `maintenance.retention.forget`: records the dropped states, then collects garbage.
4. `store.retention_log`: the append-only log of these records.
5. `partial_tree`: the tree of a commit without its dropped components.
6. `forgotten_error`: the error for a reader of a dropped state.

`maintenance.fsck.retention` checks the records.
"""
