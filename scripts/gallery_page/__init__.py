"""The page that scripts/gallery.py makes of films: what is read, measured, encoded and laid out."""
