"""Holdfast beside programs that do a part of the same, each in an environment of its own."""
