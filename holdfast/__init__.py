"""What every process shares: the certificates, the REST contract and the queue."""
