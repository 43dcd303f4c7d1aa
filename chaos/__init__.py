"""Proof by killing: processes and servers are stopped at chosen moments, the promises checked."""
