"""Lives: the drivers of connections, either an app's threads or the user's own loop."""
