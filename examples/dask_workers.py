"""Process a feed on other machines, with Dask: ``python dask_workers.py [SCHEDULER [WORKERS]]``.

Each price of a feed goes to a worker, which prices an option on it; the prices of each product stay in order.
SCHEDULER is the address of a Dask scheduler, such as tcp://10.0.0.1:8786, and WORKERS its number of workers
(2 by default). Without it, the program starts two worker processes of its own. Needs Dask: pip install
'lochws[dask]'.
"""

import math
import os
import platform
import random
import sys

from distributed import Client, LocalCluster

from lochws import WebSocketApp
from lochws.demo import DemoServer
from lochws.handlers.worker import Worker

PRODUCTS = ["BTC-USD", "ETH-USD", "SOL-USD"]
PRICES = 30


def call_option(tick, years=0.25, volatility=0.6, paths=20_000):
    """Price a call option by Monte Carlo simulation. Runs in a worker process."""
    price = float(tick["price"])
    drift, spread = -0.5 * volatility**2 * years, volatility * math.sqrt(years)
    gains = (max(0.0, math.exp(drift + spread * random.gauss(0, 1)) - 1) for _ in range(paths))
    return price, price * sum(gains) / paths, f"{platform.node()}-{os.getpid()}"


def main(client):
    """Price options until enough prices have arrived."""

    def show(event, future):
        """Print a result. The product's next price is processed once this has returned."""
        price, option, where = future.result()
        product = event.json["product_id"]
        print(f"{product} at {price:9.2f}: a call is worth {option:8.2f}, computed by {where}")

    executor = client.get_executor(pure=False)  # Dask would not run a pure function again for equal arguments
    worker = Worker(
        call_option, executor, key=lambda event: event.json["product_id"], payload=lambda event: event.json,
        when_full="latest", max_events=100, on_done=show,
    )
    with DemoServer(interval=0.02) as server:
        app = WebSocketApp(server.url)  # app.add_handler(worker) would give it every message

        @app.on("ready")
        def subscribe(_event):
            app.send_json(type="subscribe", channels=["ticker"], product_ids=PRODUCTS)

        @app.on("text")
        def hand_over(event):
            if event.json["type"] == "ticker" and worker.counts.received < PRICES:
                worker.take(event)
            if worker.counts.received == PRICES:
                app.close()

        app.run_forever(persist=False)
    worker.drain()  # the app has stopped, but the work continues
    print(worker.counts)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        with Client(sys.argv[1], timeout=60) as client:
            client.wait_for_workers(int(sys.argv[2]) if len(sys.argv) > 2 else 2, timeout=60)
            main(client)
    else:
        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            main(client)
