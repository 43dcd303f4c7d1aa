"""`python -m holdfast.runner FD`: how a hub starts a runner."""

from .main import main

main()
