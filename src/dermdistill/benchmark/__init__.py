"""Networks side by side: size, latency, memory."""
