"""Handlers without a subclass: functions registered on an app, and an object with methods."""

from lochws import WebSocketApp, events
from lochws.demo import DemoServer


class Journal:
    """Notes how connections come and go. Any object with `on_<event>` methods will do."""

    def on_ready(self, event):
        print("journal:", event)

    def on_disconnected(self, event):
        print("journal:", event)


with DemoServer() as server:
    app = WebSocketApp(server.echo_url)
    app.add_handler(Journal())

    @app.on("ready")
    def greet(event):
        """Say the first word."""
        app.send_text("hello")

    @app.on(events.Text, events.Binary)
    def show(event):
        """Show the answer; one is enough."""
        print(event)
        app.close()

    print("last event:", app.run_forever())
