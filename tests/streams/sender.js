// Sends one long message with the Node server `ws`, as sender.py does: node sender.js PORT BYTES
"use strict";
const { WebSocketServer } = require("ws");
const [port, size] = process.argv.slice(2).map(Number);
const PART = 64 * 1024;

new WebSocketServer({ port, host: "127.0.0.1" }).on("connection", (socket) => {
  const pinged = new Map();
  let longest = 0;
  socket.on("error", () => {});
  socket.on("pong", (data) => {
    longest = Math.max(longest, performance.now() - pinged.get(String(data)));
    pinged.delete(String(data));
  });
  const timer = setInterval(() => {
    const name = String(performance.now());
    pinged.set(name, performance.now());
    socket.ping(name);
  }, 100);
  socket.on("close", () => clearInterval(timer));
  let start = 0;
  const more = () => {
    if (start < size) {
      const part = Buffer.alloc(Math.min(PART, size - start));
      start += PART;
      socket.send(part, { fin: start >= size, binary: true }, more);
      return;
    }
    clearInterval(timer);
    socket.send("end");
    const last = setInterval(() => {
      if (pinged.size === 0) {
        clearInterval(last);
        socket.send(String(longest / 1000));
      }
    }, 10);
  };
  more();
});
