"""Tests of grokmon."""
