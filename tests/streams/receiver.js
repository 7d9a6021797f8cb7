// Receives one long message with the Node server `ws`, as receiver.py does: node receiver.js PORT
"use strict";
const { WebSocketServer } = require("ws");
const { crc32 } = require("zlib");
const port = Number(process.argv[2]);

new WebSocketServer({ port, host: "127.0.0.1", maxPayload: 0 }).on("connection", (socket) => {
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
  socket.on("message", (data) => {
    clearInterval(timer);
    socket.send(`${data.length} ${crc32(data)} ${longest / 1000}`);
  });
});
