"""Models that a trained model is compared with, and the interface that they share."""
