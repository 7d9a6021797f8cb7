"""Dispatch: the registration of handlers, and the delivery of events to them."""
