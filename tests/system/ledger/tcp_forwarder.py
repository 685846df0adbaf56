"""A TCP port in front of another one, which can be closed, opened again, and frozen."""

import contextlib
import select
import socket
import threading


class TcpForwarder:
    """Forwards connections to *target*, "host:port", from `port` of the loopback address."""

    def __init__(self, target):
        host, _, port = target.partition(":")
        self._target = host, int(port)
        self.port = 0
        self._running = threading.Event()
        self._connections = []
        self.open()

    def open(self):
        """Accept connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._running.set()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self):
        """Refuse new connections, and break those that there are."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_connections()
        self._running.set()

    def break_connections(self):
        """Break every connection."""
        connections, self._connections = self._connections, []
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def freeze(self):
        """Keep connections open, and forward nothing."""
        self._running.clear()

    def thaw(self):
        """Forward what has come since."""
        self._running.set()

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
                self._connections += (client, server)
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client, server):
        other = {client: server, server: client}
        with client, server, contextlib.suppress(OSError):
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(1 << 16)
                    self._running.wait()
                    if not data:
                        return
                    other[source].sendall(data)
