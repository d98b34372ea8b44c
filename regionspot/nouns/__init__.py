"""Common nouns that every word is compared with, and how words stand to them in WordNet."""
