"""Is a repo well, and what does it weigh? Reads and counts; torch is never needed."""
