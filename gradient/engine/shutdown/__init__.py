"""What happens at the end of the process: pending commits are written, and a hint is printed."""
