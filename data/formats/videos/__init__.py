"""Video: pictures in order of time, without cameras."""
