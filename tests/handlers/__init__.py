"""Ready-made handlers, alone and in an app."""
