"""Server of the browser viewer: viser on one port, loopback unless another host is given."""

from __future__ import annotations

import contextlib
import io
import socket

import viser

from bevstack.viewer.browser.origins import SERVE, checked_origins

TITLE = "bevstack"


def start_server(host: str, port: int) -> viser.ViserServer:
    """Start the server on exactly this port; 0 takes a free one.

    Nothing leaves the machine: lights come from the scene, not from pictures of a network, and a
    request of a browser for a public address is not answered. Pages of other websites are refused.

    Raises:
        ValueError: the port is in use, or the host is no address of this machine.
        RuntimeError: the server would not check the pages that connect.
    """
    check_free(host, port)
    quiet = contextlib.redirect_stdout(io.StringIO())  # viser prints its address in a frame
    with quiet, checked_origins(host) as starts:
        server = viser.ViserServer(host=host, port=port, label=TITLE, verbose=False)
    if not starts:
        stop_server(server)
        raise RuntimeError(
            f"viser must start its server by {SERVE}; got version {viser.__version__}, which does "
            "not and so lets every website connect: install the one that pyproject.toml names"
        )
    if port and server.get_port() != port:  # taken between the check and the start
        stop_server(server)
        raise ValueError(_in_use(port))
    server.request_share_url = lambda verbose=True: None  # it would open a tunnel to a public host
    server.scene.configure_environment_map(None)
    server.scene.configure_default_lights(True, cast_shadow=False)
    server.scene.add_light_ambient("/light", intensity=1.2)
    server.gui.configure_theme(
        dark_mode=True, show_logo=False, show_share_button=False, brand_color=(64, 132, 214)
    )
    return server


def stop_server(server: viser.ViserServer) -> None:
    """Stop the server and close its port."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def check_free(host: str, port: int) -> None:
    """Check that a server could listen on an address and port.

    Raises:
        ValueError: the port is in use, or the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (socket.gaierror, OverflowError) as error:
            raise ValueError(f"host and port must be an address; got {host}:{port}") from error
        except OSError as error:
            if port:
                raise ValueError(_in_use(port)) from error
            raise ValueError(f"host must be an address of this machine; got {host}") from error


def _in_use(port: int) -> str:
    return f"port must be free; got {port}, which is in use: give another one with --port"
