# SPDX-License-Identifier: Apache-2.0
"""The program on each real server: one nginx that says who it is and whom it sees.

GET /              text lines `server: NAME` and `client: ADDRESS port PORT`; keep-alive
GET /close         the same, and the server closes the connection
GET /files/NAME    a file out of the lab's `files` directory, the same on every server
PUT /upload/NAME   kept in the lab's directory as NAME of the server, then `upload`, then NAME
"""

from __future__ import annotations

import socket
from pathlib import Path

from namespace import inside

CONFIG = """\
daemon off;
user root;  # the scratch directory is root's own
worker_processes 1;
error_log {directory}/error.log;
pid {directory}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    default_type text/plain;
    sendfile on;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    server {{
        listen 0.0.0.0:80 backlog=4096;
        listen [::]:80 backlog=4096 ipv6only=on;
        location = / {{
            return 200 "server: {name}\\nclient: $remote_addr port $remote_port\\n";
        }}
        location = /close {{
            keepalive_timeout 0;
            return 200 "server: {name}\\nclient: $remote_addr port $remote_port\\n";
        }}
        location /files/ {{ alias {files}/; }}
        location /upload/ {{
            alias {directory}/upload/;
            dav_methods PUT;
        }}
    }}
}}
"""


def prepare(name: str, directory: Path, files: Path) -> list[str]:
    """Write the configuration of server *name* into *directory* and return nginx's command line."""
    (directory / "upload").mkdir(parents=True)
    config = directory / "nginx.conf"
    config.write_text(CONFIG.format(name=name, directory=directory, files=files))
    return ["nginx", "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(config)]


def is_listening(namespace: str) -> bool:
    """Whether port 80 in *namespace* accepts connections, on both families."""
    with inside(namespace):
        for family, loopback in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                if probe.connect_ex((loopback, 80)):
                    return False
    return True
