"""`aegis gateway`: what it says before it serves."""

import socket

from click.testing import CliRunner

from aegis import main


def test_a_port_that_is_taken_is_told_and_nothing_is_called_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        done = CliRunner().invoke(main, ["gateway", "--listen", address])

    assert done.exit_code == 1
    assert done.output.startswith(f"Error: --listen {address}: Address already in use")
    assert "gateway on" not in done.output


def test_without_a_token_it_is_not_for_strangers() -> None:
    done = CliRunner().invoke(main, ["gateway", "--listen", "0.0.0.0:0"])

    assert done.exit_code == 2
    assert "set AEGIS_GATEWAY_TOKEN" in done.output
