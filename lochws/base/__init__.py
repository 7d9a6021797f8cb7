"""Parts that all the others may use: records."""
