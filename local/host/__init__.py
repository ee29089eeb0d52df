"""A stand-in for the Azure Functions host, on the genuine Python worker runtime.

One process is one instance of one scale group (the HTTP functions, one queue function, the timers), as on Flex
Consumption. It loads the real function_app.py through `azure-functions-runtime`, the library that does so in Azure,
and does around it what the host does: routes, keys, queue polling, leases, poison queue, schedules.
"""
