"""Viewer in the browser: a server on this machine, without any request to another one."""
