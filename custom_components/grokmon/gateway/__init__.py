"""The domain of grokmon: from bytes to readings, without Home Assistant, I/O or a clock of its own."""
