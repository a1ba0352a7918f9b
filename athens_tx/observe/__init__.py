"""What the daemon says of itself: logs, metrics, and what neither of them may show."""
