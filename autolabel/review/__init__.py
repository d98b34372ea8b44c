"""After a run: the review in FiftyOne, its corrections, export and fine-tuning."""
