"""The product without a service and without waiting: an event loop in virtual time, and storage in memory."""
