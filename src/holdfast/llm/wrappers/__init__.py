"""Wrappers around chat models, one feature each; none knows of the others."""
