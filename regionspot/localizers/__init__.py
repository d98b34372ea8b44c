"""Localizers turn boxes into position-aware tokens, and into masks."""
