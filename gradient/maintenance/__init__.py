"""Garbage collection, retention, sizes, checks of repos and disks. torch is never needed."""
