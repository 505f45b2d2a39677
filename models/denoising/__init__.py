"""What families that denoise share."""
