"""Models of chips at the level of I2C messages, one chip per file."""
