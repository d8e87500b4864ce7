"""Orders out, tallies back, on Redis streams: `keys` has the protocol; jobs, orders, leases, events a file each."""
