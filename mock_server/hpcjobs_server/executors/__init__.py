"""How the server runs a job: one module per way."""
