"""What every backend of a room must do, as suites that a backend's own tests inherit."""
