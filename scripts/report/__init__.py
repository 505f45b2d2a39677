"""The page that scripts/report makes of a run: what is read, worked out, drawn and laid out."""
