"""Handlers without a subclass: functions registered on an app, and an object with handler methods."""

from lochws import WebSocketApp, events
from lochws.demo import DemoServer


class Journal:
    """Prints how connections open and close. Any object with `on_<event>` methods can be a handler."""

    def on_ready(self, event):
        print("journal:", event)

    def on_disconnected(self, event):
        print("journal:", event)


with DemoServer() as server:
    app = WebSocketApp(server.echo_url)
    app.add_handler(Journal())

    @app.on("ready")
    def greet(event):
        """Send the first message."""
        app.send_text("hello")

    @app.on(events.Text, events.Binary)
    def show(event):
        """Print the reply, and close."""
        print(event)
        app.close()

    print("last event:", app.run_forever())
