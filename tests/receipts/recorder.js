// Prints "ready", each message that the Node server `ws` reads, in a line of its own, and "end" after each
// connection. The arguments are a port and, for TLS, a file with the certificate and its key.
"use strict";
const fs = require("fs");
const { WebSocketServer } = require("ws");

const [port, pem] = process.argv.slice(2);
const tls = pem && { cert: fs.readFileSync(pem), key: fs.readFileSync(pem) };
const http = tls ? require("https").createServer(tls) : require("http").createServer();
http.listen(Number(port), "127.0.0.1", () => process.stdout.write("ready\n"));
new WebSocketServer({ server: http }).on("connection", (socket) => {
  socket.on("message", (data) => process.stdout.write(`${data}\n`));
  socket.on("error", () => {});
  socket.on("close", () => process.stdout.write("end\n"));
});
