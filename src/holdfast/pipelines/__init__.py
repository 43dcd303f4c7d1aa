"""Pipelines: declared in Python, checked when sealed, compiled to LangGraph."""
