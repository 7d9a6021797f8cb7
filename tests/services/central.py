"""A central system for chargers (OCPP 1.6), made with the package ocpp: ``python central.py PORT``."""

import asyncio
import itertools
import sys
from datetime import datetime, timezone

from ocpp.routing import after, on
from ocpp.v16 import ChargePoint, call, call_result
from websockets.asyncio.server import serve

transactions = itertools.count(1)


class Charger(ChargePoint):
    """A charger that is connected. It is asked to begin charging as soon as it has booted."""

    @on("BootNotification")
    def boot(self, **_):
        now = datetime.now(timezone.utc).isoformat()
        return call_result.BootNotification(current_time=now, interval=1, status="Accepted")

    @after("BootNotification")
    async def begin(self, **_):
        reply = await self.call(call.RemoteStartTransaction(id_tag="CARD-7", connector_id=1))
        print("remote start:", reply.status, flush=True)

    @on("Heartbeat")
    def heartbeat(self):
        print("heartbeat", flush=True)
        return call_result.Heartbeat(current_time=datetime.now(timezone.utc).isoformat())

    @on("StartTransaction")
    def start_transaction(self, **_):
        return call_result.StartTransaction(next(transactions), id_tag_info={"status": "Accepted"})

    @on("MeterValues")
    def meter_values(self, meter_value, **_):
        print("meter:", meter_value[0]["sampled_value"][0]["value"], flush=True)
        return call_result.MeterValues()


async def connected(connection):
    """Serve one charger; the last part of the path is its name."""
    await Charger(connection.request.path.rpartition("/")[2], connection).start()


async def main(port):
    """Serve until the process is ended."""
    async with serve(connected, "127.0.0.1", port, subprotocols=["ocpp1.6"]) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))
