// Prints "ready", each message that the Node server `ws` reads, in a line of its own, and "end" after each
// connection.
"use strict";
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({ port: Number(process.argv[2]), host: "127.0.0.1" });
server.on("listening", () => process.stdout.write("ready\n"));
server.on("connection", (socket) => {
  socket.on("message", (data) => process.stdout.write(`${data}\n`));
  socket.on("error", () => {});
  socket.on("close", () => process.stdout.write("end\n"));
});
