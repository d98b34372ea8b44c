"""Classes that a few example regions stand for."""
