"""A chat room: ``python chat.py serve [PORT]`` starts it, ``python chat.py join URL NAME`` enters it.

A member types lines, sees what all others say, and rejoins the room after a lost connection. Without
arguments, three members have a short conversation.
"""

import json
import queue
import sys
import threading
from contextlib import ExitStack, contextmanager

from lochws import Backoff, WebSocketApp
from lochws.errors import TransportFail, WebSocketUnavailable
from lochws.testing import ScriptedServer, accept, close

TALK = [("Ann", "Has anybody seen my threads?"), ("Cleo", "All three, and they are fine."), ("Bob", "Bye!")]


class Member(WebSocketApp):
    """A member of the room. The app's own thread shows what others say."""

    def __init__(self, url, name, show=print):
        super().__init__(url)
        self.name = name
        self.show = show

    def on_ready(self, event):
        self.send_json(name=self.name)  # on every connection: a restarted server does not know us

    def on_text(self, event):
        self.show(f"{event.json['name']}: {event.json['text']}")

    def on_back_off(self, event):
        self.show("(the connection is lost; trying again)")

    def say(self, text):
        """Say something to all others. May be called from any thread."""
        try:
            self.send_json(text=text)
        except (WebSocketUnavailable, TransportFail):
            self.show(f"(not connected; not sent: {text!r})")


class Room:
    """The server's side: passes on what each member says to all others."""

    def __init__(self):
        self.members = {}
        self.lock = threading.Lock()  # guards `members`

    def answer(self, connection):
        """Serve one connection, on its own thread. Its first message is the member's name."""
        name = json.loads(connection.receive())["name"]
        with self.lock:
            self.members[connection] = name
        connection.send(json.dumps({"name": "room", "text": f"welcome, {name}"}))
        self.tell(connection, name, "joined")
        for message in connection:
            self.tell(connection, name, json.loads(message)["text"])
        with self.lock:
            del self.members[connection]
        self.tell(connection, name, "left")

    def tell(self, speaker, name, text):
        """Send a message to everyone except the speaker."""
        with self.lock:
            others = [member for member in self.members if member is not speaker]
        for member in others:
            member.send(json.dumps({"name": name, "text": text}))


@contextmanager
def room(port=0):
    """Serve a room on loopback; yields its URL."""
    with ScriptedServer([accept(), Room().answer, close()], port=port, history=False) as server:
        yield server.url


def join(url, name):
    """Take part by keyboard, until the end of the input (Ctrl-D)."""
    member = Member(url, name, lambda line: print(line, flush=True))
    member.start(persist=Backoff(min_wait=0.2, max_wait=5))
    with member:
        for line in sys.stdin:
            member.say(line.strip())


def talk():
    """Let Ann, Bob and Cleo talk. Each hears what the other two say, on a separate thread."""
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
