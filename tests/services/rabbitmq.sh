# RabbitMQ's nodes find each other through epmd, which would stay behind as a daemon: this one belongs to the server's
# group of processes.
epmd -address 127.0.0.1 -port "$$ERL_EPMD_PORT" &
exec /usr/lib/rabbitmq/bin/rabbitmq-server
