"""From a captured state to an acknowledged commit: in the loop's own time, or in the background."""
