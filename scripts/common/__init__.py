"""What all programs share: progress, results, process pools."""
