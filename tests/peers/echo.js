// Echoes messages with the Node server `ws`, on the port given; with TLS if there is a certificate as well.
"use strict";
const fs = require("fs");
const { WebSocketServer } = require("ws");
const [port, certificate, key] = process.argv.slice(2);
const options = { perMessageDeflate: true };

if (certificate) {
  const files = { cert: fs.readFileSync(certificate), key: fs.readFileSync(key) };
  options.server = require("https").createServer(files).listen(Number(port), "127.0.0.1");
} else {
  Object.assign(options, { port: Number(port), host: "127.0.0.1" });
}
new WebSocketServer(options).on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("error", () => {});
});
