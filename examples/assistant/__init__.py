"""A help desk: an agent with two tools, and rules that answer where there is no model."""
