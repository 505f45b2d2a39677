"""The page that scripts/gallery makes of films: what is read, measured, encoded and laid out."""
