"""A chat. ``python chat.py serve [PORT]`` is its server, ``python chat.py join URL NAME`` takes part.

Who takes part types lines and sees what all others say, and stays in the room when the connection is lost.
Without arguments three people have a short talk by themselves.
"""

import json
import queue
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from lochws import Backoff, WebSocketApp
from lochws.errors import TransportFail, WebSocketUnavailable

TALK = [("Ann", "Has anybody seen my threads?"), ("Cleo", "All three, and they are fine."), ("Bob", "Bye!")]


class Member(WebSocketApp):
    """Somebody in the room. What others say is shown by the app's own thread, whatever this one waits for."""

    def __init__(self, url, name, show=print):
        super().__init__(url)
        self.name = name
        self.show = show

    def on_ready(self, event):
        self.send_json(name=self.name)  # on every connection: the server may not know us any more

    def on_text(self, event):
        self.show(f"{event.json['name']}: {event.json['text']}")

    def on_back_off(self, event):
        self.show("(the connection is lost; trying again)")

    def say(self, text):
        """Say something to all others. For any thread."""
        try:
            self.send_json(text=text)
        except (WebSocketUnavailable, TransportFail):
            self.show(f"(not connected: nobody has heard {text!r})")


class Room:
    """The server's side: passes on what each says to all others."""

    def __init__(self):
        self.members = {}
        self.lock = threading.Lock()  # guards `members`

    def answer(self, connection):
        """Serve a connection, on its own thread; its first message is the member's name."""
        name = json.loads(connection.recv())["name"]
        with self.lock:
            self.members[connection] = name
        connection.send(json.dumps({"name": "room", "text": f"welcome, {name}"}))
        self.tell(connection, name, "has come")
        with suppress(ConnectionClosed):
            for message in connection:
                self.tell(connection, name, json.loads(message)["text"])
        with self.lock:
            del self.members[connection]
        self.tell(connection, name, "has left")

    def tell(self, speaker, name, text):
        """Tell all but the speaker."""
        with self.lock:
            others = [member for member in self.members if member is not speaker]
        for member in others:
            with suppress(ConnectionClosed):  # it is about to leave
                member.send(json.dumps({"name": name, "text": text}))


@contextmanager
def room(port=0):
    """Serve a room on loopback; yields its URL."""
    with serve(Room().answer, "127.0.0.1", port) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        finally:
            server.shutdown()


def join(url, name):
    """Take part with the keyboard, until its end (Ctrl-D)."""
    member = Member(url, name, lambda line: print(line, flush=True))
    member.start(persist=Backoff(min_wait=0.2, max_wait=5))
    with member:
        for line in sys.stdin:
            member.say(line.strip())


def talk():
    """Ann, Bob and Cleo have a talk. What one says the two others hear, each on a thread of its own."""
    heard = queue.Queue()
    with room() as url, ExitStack() as people:
        members = {}
        for name in ("Ann", "Bob", "Cleo"):
            member = Member(url, name, lambda line, name=name: heard.put(f"{name} hears {line}"))
            people.enter_context(member).wait_ready(timeout=10)
            members[name] = member
            for _ in members:
                print(heard.get(timeout=10))
        for name, text in TALK:
            members[name].say(text)
            print(heard.get(timeout=10))
            print(heard.get(timeout=10))


if __name__ == "__main__":
    if sys.argv[1:2] == ["join"]:
        join(*sys.argv[2:])
    elif sys.argv[1:2] == ["serve"]:
        with room(int((*sys.argv, 8765)[2])) as url:
            print(url, flush=True)
            threading.Event().wait()
    else:
        talk()
