"""Tests of what is done at the broker, with a real one where that says more."""
