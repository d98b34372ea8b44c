"""Boxes classified by the encoder alone, on what each cuts out of its image."""
