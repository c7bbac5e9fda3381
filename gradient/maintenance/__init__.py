"""Is a repo well, what does it weigh, and what may go? torch is never needed."""
