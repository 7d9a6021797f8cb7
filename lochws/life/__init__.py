"""What drives connections: an app's life in threads, or a loop of the user's."""
