"""Lives: what drives connections, an app in threads or a loop of the user's."""
