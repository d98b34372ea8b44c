"""The regions of a run computed by other processes, on this machine or on many."""
