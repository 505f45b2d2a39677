"""A page that compares the views of objects, sampled by several methods, with figures."""
