"""Experiments behind the figures of the paper and of the model card."""
