"""FiftyOne: its database, datasets, label fields and what a review left in them."""
