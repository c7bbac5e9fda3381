"""The end of a process that trains: pending commits are written, and a hint is logged.

Five hooks take part, in this order:

1. Signal handlers (`preemption.signals`): the run commits once more and raises SystemExit(75).
2. `threading._register_atexit` (`exit_hook`): waits for background commits, with a progress line.
   The interpreter calls it before it joins its threads.
3. `atexit` (`crash_hint`): logs the command that continues the run, if an exception ended it.
4. `weakref.finalize` (`engine.session`): stops the parts of an engine that was never closed.
5. `__del__` of a module global (`exit_status`): exits with status 1 if a background commit failed
   or was cut off, and nothing reported it.
"""
