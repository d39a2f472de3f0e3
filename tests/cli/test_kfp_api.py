import socket
import threading

import pytest

from cli.kfp_api import KfpApi


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{", b"HTTP/1.1 2", b""])
def test_an_answer_that_is_broken_off_is_a_fault_of_the_connection(sent):
    """As when KFP's server or its UI is restarted: `submit --wait` looks again."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(sent)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OSError):
            KfpApi(f"http://127.0.0.1:{server.getsockname()[1]}", "").text("apis/v2beta1/runs/x")
        thread.join()
