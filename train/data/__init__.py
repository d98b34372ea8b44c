"""Readers of annotated images, each of which gives a `Dataset`."""
