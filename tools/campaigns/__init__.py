"""Does a repo keep its promises under the worst that can happen to a process, a disk, a neighbour?

One campaign each, over one table of operations and one oracle. A test runs a sample of it; from the
shell it runs in full: ``python -m tools.campaigns.kills --help``. docs/reliability.md has results.
"""
