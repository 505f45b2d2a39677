"""XFactor: views under poses that are read off video, learnt without cameras (arXiv:2510.13063)."""
