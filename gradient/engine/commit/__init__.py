"""The path of a commit, from live objects to an acknowledged commit.

In the order in which a commit passes through them:

1. `committer`: decides whether a commit is due, captures the state and drafts the tree.
2. `gc_pause`, `nan_check`: the pause of Python's garbage collector, and the check of the weights.
3. `pending_commit`: the drafted commit, with everything that writing it needs.
4. `background`: the queue and the thread, if commits are written in the background.
5. `disk_full`: the policy if the disk has no space.
6. `commit_writer`, `delta_policy`: writes the objects, as an anchor or a delta, and publishes.
7. `commit_future`, `commit_handle`: the result, and the `Revision` that the caller gets.
"""
