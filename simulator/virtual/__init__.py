"""Gateways and a cloud in one process under virtual time: the real code, without its threads, sockets and clocks."""
