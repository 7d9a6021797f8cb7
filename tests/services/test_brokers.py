"""examples/mqtt.py, stomp.py and nats.py, with the brokers that they are for."""

from __future__ import annotations

import pytest

from ..peers.programs import find
from .service import PATIENCE, Service, example

pytestmark = pytest.mark.timeout(3 * PATIENCE)


def sees_it_again(service: Service, name: str, path: str, line: str) -> None:
    """Run a program, and expect a line both before the server is killed and after it is started again."""
    with service, example(name, f"ws://127.0.0.1:{service.port}{path}") as program:
        program.wait_for(line)
        service.kill()
        service.start()
        program.skip()
        program.wait_for(line)
        program.interrupt()


def test_mqtt_over_a_restart_of_mosquitto() -> None:
    mosquitto = Service([find("mosquitto"), "-c", "$folder/mosquitto.conf"], files=["mosquitto.conf"])
    sees_it_again(mosquitto, "mqtt.py", "/", r"^home/temperature \d+\.\d$")


def test_nats_over_a_restart() -> None:
    nats = Service([find("nats-server"), "-c", "$folder/nats.conf"], files=["nats.conf"])
    sees_it_again(nats, "nats.py", "/", r"^orders\.new {'placed': '[\d:]+'}$")


def test_stomp_over_a_restart_of_rabbitmq() -> None:
    find("rabbitmq-server")
    environment = {
        "ERL_EPMD_PORT": "$port2",
        "RABBITMQ_CONFIG_FILE": "$folder/rabbitmq.conf",
        "RABBITMQ_DIST_PORT": "$port3",
        "RABBITMQ_ENABLED_PLUGINS_FILE": "$folder/enabled_plugins",
        "RABBITMQ_LOG_BASE": "$folder/log",
        "RABBITMQ_MNESIA_BASE": "$folder/mnesia",
        "RABBITMQ_NODENAME": "lochws$port@localhost",
    }
    files = ["rabbitmq.sh", "rabbitmq.conf", "enabled_plugins"]
    rabbitmq = Service(["sh", "$folder/rabbitmq.sh"], ports=4, files=files, environment=environment)
    sees_it_again(rabbitmq, "stomp.py", "/ws", r"^/topic/prices \d+\.\d\d$")
