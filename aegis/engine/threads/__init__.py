"""Threads that run guests, and threads that wait for them (D7, D9).

guest_thread        which threads may run a guest; guest threads with a large stack
queue               a bounded pool of guest threads for asynchronous calls
supervisor          waits for a guest thread, so that Ctrl-C and the deadline take effect
event_loop, await_result    calls awaited on an event loop; awaitables of host functions
ticker              advances the engines' epochs while calls are in progress
"""
