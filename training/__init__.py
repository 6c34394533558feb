"""Training of the towers: batches, losses, negatives, steps, checkpoints and the loop."""
