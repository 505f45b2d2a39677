"""Image metrics, the networks behind them, and where their weights are found."""
