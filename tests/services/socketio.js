// A Socket.IO server: acknowledges orders, and tells everybody about them.
const { Server } = require("socket.io");

const server = require("http").createServer();
const io = new Server(server, { pingInterval: 1000, pingTimeout: 2000 });
let number = 0;
io.on("connection", (socket) => {
    socket.on("order", (order, acknowledge) => {
        number += 1;
        acknowledge({ number });
        io.emit("placed", { number, ...order });
    });
});
server.listen(Number(process.argv[2]), "127.0.0.1");
