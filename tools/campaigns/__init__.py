"""Campaigns that test a repo's guarantees under kills, power cuts, errors and concurrent writers.

All campaigns share one table of operations and one oracle. The tests run a sample of each. The
shell runs a campaign in full: ``python -m tools.campaigns.kills --help``. docs/reliability.md has
results.
"""
