"""What do the parsers do with bytes that nobody wrote? One target each, seeds from a sound repo.

A parser may refuse (a GradientError), or accept. It must not raise anything else, nor take long,
nor need memory that has no relation to what it was given.
"""
