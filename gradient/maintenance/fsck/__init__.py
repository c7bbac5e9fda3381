"""Is every byte of a repo what it should be, and what can be saved where it is not?

Nothing here trusts what it reads, and only `repair` writes. Each file asks one question; what they
find is named in one table, `findings`. No torch.
"""
