"""Features of the frozen towers: computed once, kept in sharded files, read in batches."""
