"""Checks of what models read and say: find secrets, personal data, markup, injected orders."""
