// Echoes messages with the Node server `ws`, on the port given; with TLS if there is a certificate as well.
"use strict";
const fs = require("fs");
const { WebSocketServer } = require("ws");
const [port, certificate, key] = process.argv.slice(2);

const server = certificate
  ? require("https").createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) })
  : require("http").createServer();
new WebSocketServer({ server, perMessageDeflate: true }).on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("error", () => {});
});
server.listen(Number(port), "127.0.0.1");
