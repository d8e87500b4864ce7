"""The server side: the gateway takes requests, the certifier turns tallies into certificates."""
