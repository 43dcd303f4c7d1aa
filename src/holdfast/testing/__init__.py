"""For tests, ours and our users': fake providers, in-memory parts, contract suites."""
