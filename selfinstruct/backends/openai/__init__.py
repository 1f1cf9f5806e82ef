"""Any OpenAI-compatible server, hosted or local; one request at a time, or in batches."""
