"""How much is asked, when, and of whom: fleet, width, pace, circuit, retries."""
