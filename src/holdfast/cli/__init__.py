"""The command line: one file per command group, over a running hub or the store itself."""
