"""The end of a run whose job is about to be ended.

`signals` notes the signal and ends the run after the current step; `barrier` lets all ranks agree
on that step.
"""
