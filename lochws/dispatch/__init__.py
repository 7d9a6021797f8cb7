"""Dispatch: finds the handlers of an event and calls them."""
