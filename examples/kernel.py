"""Run code in a kernel, like a Jupyter client: ``python kernel.py [URL]``.

The messages are Jupyter's: replies arrive on the channel "shell" and name the request that they answer; the
kernel's output arrives on "iopub" in the meantime. URL is that of a running kernel, such as
``ws://localhost:8888/api/kernels/ID/channels?token=TOKEN``. Without one, the program starts a small kernel.
"""

import ast
import json
import queue
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from uuid import uuid4

from lochws import WebSocketApp
from lochws.handlers.replies import Replies
from lochws.testing import ScriptedServer, accept, close

#: The last message published about a request.
IDLE = ("status", {"execution_state": "idle"})


def message(channel, kind, session, parent=None, **content):
    """Return a message of the Jupyter protocol."""
    header = {
        "msg_id": uuid4().hex, "msg_type": kind, "session": session, "username": "user", "version": "5.3",
        "date": datetime.now(timezone.utc).isoformat(),
    }
    return {
        "channel": channel, "header": header, "parent_header": parent or {}, "metadata": {},
        "content": content, "buffers": [],
    }


def request_id(message):
    """Return the id of a request, which its reply repeats. Only the channel "shell" has replies."""
    header = message["parent_header"] or message["header"]
    return header.get("msg_id") if message["channel"] == "shell" else None


class Kernel(WebSocketApp):
    """A client of a kernel. Any number of threads may send requests at the same time."""

    def __init__(self, url):
        super().__init__(url)
        self.session = uuid4().hex
        self.replies = Replies(self, match=request_id, unwrap=lambda reply: reply["content"])
        self.outputs = {}  # for each execution, a queue of the messages published about it

    def ask(self, kind, **content):
        """Send a request; returns a future for the content of the reply."""
        return self.replies.request(message("shell", kind, self.session, **content))

    def execute(self, code):
        """Run code. Yields the kind and content of each published message, and then of the reply."""
        request = message("shell", "execute_request", self.session, code=code, silent=False)
        key = request_id(request)
        self.outputs[key] = output = queue.SimpleQueue()
        try:
            reply = self.replies.request(request)
            yield from iter(output.get, IDLE)
            yield "execute_reply", reply.result()  # raises if the connection was lost
        finally:
            del self.outputs[key]

    def on_text(self, event):
        published = event.json
        output = self.outputs.get(published["parent_header"].get("msg_id"))
        if output and published["channel"] == "iopub":
            output.put((published["header"]["msg_type"], published["content"]))

    def on_disconnected(self, event):
        for output in list(self.outputs.values()):
            output.put(IDLE)  # nothing more will arrive


class SmallKernel:
    """The kernel's side: runs code for one connection."""

    def __init__(self, connection):
        self.connection = connection
        self.asked = {}

    def serve(self):
        """Answer requests until the client leaves."""
        for text in self.connection:
            request = json.loads(text)
            self.asked = request["header"]
            self.send("iopub", "status", execution_state="busy")
            if self.asked["msg_type"] == "execute_request":
                self.send("shell", "execute_reply", **self.run(request["content"]["code"]))
            else:
                self.send("shell", "kernel_info_reply", status="ok", banner="A small kernel")
            self.send("iopub", "status", execution_state="idle")

    def send(self, channel, kind, **content):
        """Send a message about the current request."""
        self.connection.send(json.dumps(message(channel, kind, "kernel", self.asked, **content)))

    def print(self, *words):
        """Replace `print` in the code that is run."""
        self.send("iopub", "stream", name="stdout", text=" ".join(map(str, words)) + "\n")

    def run(self, code):
        """Run code, publish the value of its last line, and return the content of the reply."""
        names = {"print": self.print}
        try:
            lines = ast.parse(code).body
            last = lines.pop().value if lines and isinstance(lines[-1], ast.Expr) else ast.Constant(None)
            exec(compile(ast.Module(lines, []), "cell", "exec"), names)
            value = eval(compile(ast.fix_missing_locations(ast.Expression(last)), "cell", "eval"), names)
        except Exception as error:  # noqa: BLE001  the code may raise anything
            failure = {"ename": type(error).__name__, "evalue": str(error), "traceback": []}
            self.send("iopub", "error", **failure)
            return {"status": "error", **failure}
        if value is not None:
            self.send("iopub", "execute_result", data={"text/plain": repr(value)}, metadata={})
        return {"status": "ok"}


@contextmanager
def small_kernel():
    """Serve small kernels on loopback; yields the URL."""
    script = [accept(), lambda connection: SmallKernel(connection).serve(), close()]
    with ScriptedServer(script, history=False) as server:
        yield f"{server.url}api/kernels/small/channels"


def shown(kind, content):
    """Return the readable part of an output."""
    match kind:
        case "error":
            return f"{content['ename']}: {content['evalue']}"
        case "execute_result":
            return content["data"]["text/plain"]
        case "stream":
            return content["text"].rstrip()
    return content.get("status") or content.get("execution_state") or content.get("code")


def main(url):
    """Run a few cells, one after another, and then two at once."""
    with Kernel(url) as kernel:
        if not kernel.wait_ready(timeout=10):
            sys.exit(f"no connection to {url}")
        print(kernel.ask("kernel_info_request").result()["banner"])
        for cell in ("6 * 7", "for step in range(3):\n    print('step', step)", "1 / 0"):
            print("In:", cell)
            for kind, content in kernel.execute(cell):
                print(f"    {kind:<16}", shown(kind, content))
        with ThreadPoolExecutor() as threads:
            for outputs in threads.map(lambda cell: list(kernel.execute(cell)), ["'one'", "'two'"]):
                print("at once:", *(shown(*output) for output in outputs))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with small_kernel() as url:
            main(url)
