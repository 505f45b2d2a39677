"""What pages that programs write have in common: their skeleton, their look, their pictures, their words."""
