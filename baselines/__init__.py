"""Models that a trained two-tower model is compared with, one file each, and the protocols that they share."""
