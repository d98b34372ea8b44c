"""`autolabel evaluate`: figures with intervals, what goes wrong, and a page that shows both."""
