"""Who may do what: scopes, keys of clients and signatures of devices."""
