"""`autolabel run` and `relabel`: from images to regions, labels and a run folder."""
