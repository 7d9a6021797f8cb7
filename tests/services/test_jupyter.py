"""examples/kernel.py, and a Jupyter server."""

from __future__ import annotations

import pytest

from .service import PATIENCE, Service, example, service_program

pytestmark = pytest.mark.timeout(3 * PATIENCE)


def test_code_runs_in_a_kernel_and_in_another_one_after_a_restart_of_the_server() -> None:
    command = [
        service_program("python"), "-m", "jupyter_server", "--allow-root", "--no-browser", "--ip=127.0.0.1",
        "--port=$port", "--port-retries=0", "--IdentityProvider.token=secret", "--ServerApp.root_dir=$folder",
    ]
    jupyter = Service(command)
    with jupyter, example("kernel.py", f"http://127.0.0.1:{jupyter.port}", "secret") as program:
        program.say("number = 6")
        program.say("print('six'); number * 7")
        program.wait_for("^six$")
        program.wait_for("^42$")
        jupyter.kill()
        jupyter.start()
        program.say("number")
        program.wait_for("^name 'number' is not defined$")
        assert program.end() == 0
