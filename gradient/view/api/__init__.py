"""The public reading API: repos, commits and components as Python objects.

History is read at once, tensors one by one on access.

    repo = gradient.open_repo("workspace/gpt")
    repo["main@100"]["model"]["lm_head.weight"]

These objects never change the repo. No `repr` reads a tensor or imports torch.
"""
