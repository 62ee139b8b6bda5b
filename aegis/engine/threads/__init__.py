"""Threads that guests run on, and the threads that wait for them (D7, D9).

guest_thread        which thread may run a guest, and threads with a large stack
queue               guest threads of asynchronous calls, a bounded number at once
supervisor          waits for a guest, so that Ctrl-C and the deadline reach it
event_loop, await_result    calls that an event loop waits for, and awaitables of host functions
ticker              advances the epochs while calls are under way
"""
