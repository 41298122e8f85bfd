"""Fuzzing of the parsers of what comes from outside, with Atheris (libFuzzer)."""
