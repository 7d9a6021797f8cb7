"""Ready-made handlers for apps; each could be a user's code."""
