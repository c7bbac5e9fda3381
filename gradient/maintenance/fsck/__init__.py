"""Checks every byte of a repo, and saves what is intact if something is damaged.

Nothing here trusts stored bytes, and only `repair` writes. Each file makes one kind of check; one
table, `findings`, names everything that they find. No torch.
"""
