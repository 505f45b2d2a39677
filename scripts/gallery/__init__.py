"""One page of films of objects, drawn by several methods side by side, with their figures."""
