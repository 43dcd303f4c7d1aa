"""Cards: pipelines declared in YAML, read and declared through `Pipeline`'s own methods."""
