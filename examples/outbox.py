"""Send readings that must arrive, from a device that is often offline: ``python outbox.py [URL]``.

The readings are kept in a file until the server has answered each of them, over any number of connections
and runs of the program. Without a URL it uses the demo server of lochws, which echoes what it gets.
"""

import sys
import tempfile
from pathlib import Path

from lochws import WebSocketApp
from lochws.demo import DemoServer
from lochws.handlers.outbox import Outbox


def main(url, path):
    """Put readings while offline, and once more while connected; then wait until all have arrived."""
    app = WebSocketApp(url)
    with Outbox(app, path, id_field="id", confirm=lambda event: event.json["id"]) as outbox:
        for celsius in (20.5, 20.7, 21.0):
            outbox.put({"celsius": celsius})
        outbox.put({"battery": 0.8}, supersede="battery", expires=3600)
        print("kept while offline:", outbox.pending)

    # The program may end here, in any way. The next run sends what is in the file.
    with app, Outbox(app, path, id_field="id", confirm=lambda event: event.json["id"]) as outbox:
        print("found in the file:", outbox.pending)
        outbox.put({"battery": 0.7}, supersede="battery", expires=3600)  # in place of the one before
        print("all confirmed:", outbox.flush(timeout=10))


with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "readings.outbox")
    if len(sys.argv) > 1:
        main(sys.argv[1], file)
    else:
        with DemoServer() as server:
            main(server.echo_url, file)
