"""Label files of other tools: one form in memory, a reader and a writer for each format."""
