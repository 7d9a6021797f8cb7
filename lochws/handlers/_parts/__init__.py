"""Parts of the ready-made handlers."""
