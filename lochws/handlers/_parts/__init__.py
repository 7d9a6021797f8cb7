"""What the ready-made handlers are made of."""
