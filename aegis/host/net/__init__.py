"""The network of one sandbox: every name and address is judged by the policy before a packet leaves.

network, verdicts   the sandbox's network, and the policy's verdicts on its uses
sockets, sending    operations on the system's sockets
resolver            name lookups on a bounded number of threads
http                an HTTP client on these sockets
null_socket         the sockets of a guest that has no network
"""
