"""Remote endpoints: connection, requests, retries, limits of requests and cost. It depends on no run and no stage."""
