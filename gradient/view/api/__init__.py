"""A repo as Python objects to look into: history at once, tensors one by one as they are asked for.

    repo = gradient.open_repo("workspace/gpt")
    repo["main@100"]["model"]["lm_head.weight"]

Nothing here changes the repo, and no `repr` reads a tensor or imports torch.
"""
