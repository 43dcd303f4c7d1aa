"""Tools: what an agent's model may call, one kind a file."""
