"""Load: arrivals of queries, dynamic batching, simulation in virtual time, and the search for the largest load."""
