"""What baselines that learn share: training sets, negatives, the loop of rounds, and the file of their weights."""
