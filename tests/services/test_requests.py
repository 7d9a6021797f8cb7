"""examples/socket_io.py, ocpp_charger.py and wamp.py, with the servers that they are for."""

from __future__ import annotations

import pytest

from .service import HERE, PATIENCE, Service, example, node, service_program

pytestmark = pytest.mark.timeout(3 * PATIENCE)


def test_socket_io_over_a_restart() -> None:
    server = Service([node("socket.io"), str(HERE / "socketio.js"), "$port"])
    with server, example("socket_io.py", f"ws://127.0.0.1:{server.port}") as program:
        program.wait_for(r"^acknowledged: {'number': 1}$")
        program.wait_for(r"^placed {'number': 2, 'product': 'tea', 'cups': 2}$")
        server.kill()
        server.start()
        program.wait_for(r"^acknowledged: {'number': 1}$")
        program.wait_for(r"^placed {'number': 2, 'product': 'tea', 'cups': 2}$")
        program.interrupt()


def test_a_charger_over_a_restart_of_the_central_system() -> None:
    central = Service([service_program("python"), str(HERE / "central.py"), "$port"])
    with central, example("ocpp_charger.py", f"ws://127.0.0.1:{central.port}", "CP-1") as program:
        program.wait_for("^transaction 1$")
        central.wait_for("^remote start: Accepted$", "^meter: 2$", "^heartbeat$")
        central.kill()
        central.start()
        program.wait_for("^transaction 1$")
        central.wait_for("^remote start: Accepted$", r"^meter: \d+$", "^heartbeat$")
        program.interrupt()


def test_wamp_over_a_restart_of_crossbar() -> None:
    command = [service_program("crossbar", "crossbar"), "start", "--cbdir", "$folder"]
    crossbar = Service(command, files=["config.json"])
    with crossbar, example("wamp.py", f"ws://127.0.0.1:{crossbar.port}/") as program:
        program.wait_for(r"^example\.now: [\d:]+$")
        crossbar.kill()
        crossbar.start()
        program.skip()
        program.wait_for(r"^example\.now: [\d:]+$")
        program.interrupt()
