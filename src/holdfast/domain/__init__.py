"""The nouns of Holdfast: frozen, typed, without I/O."""
