"""Proof by killing: processes and servers are stopped at chosen moments, the promises checked."""

VARIABLE = "CHAOS_POINT"
"""`SOCKET POINT HIT`: whom a program under test calls, at which point, the how manieth time."""
