"""Layouts of data sets, behind one interface."""
