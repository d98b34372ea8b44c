"""RegionSpot: labels for given boxes from frozen SAM tokens and a frozen image-text map."""
