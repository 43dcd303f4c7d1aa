"""`python -m holdfast.runner FD`: how a hub starts a runner."""

import gc

gc.disable()  # what is imported stays: looking through it for garbage costs a tenth of the start
from .main import main  # noqa: E402

gc.freeze()
gc.enable()
main()
