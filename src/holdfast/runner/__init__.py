"""The child process that runs graphs: frames over a socket pair, no database, no bus."""
