"""Models: what an alias stands for, the providers behind it, what their answers used and cost."""
