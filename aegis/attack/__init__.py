"""Campaigns that attack Aegis itself, ``aegis fuzz --host``: hostile bytes, and what became of whoever took them.

The oracle is one sentence: *any bytes end in a documented outcome within the deadline, and the worker lives.*

    inputs, tools, seeds                  what an input is; wasm-tools; the artifacts that others are made from
    smith, bytewise, liar                 the sources: functions from a seed and a number to an input
    lies, acting, wat                     what the liar tells: a component, its code, its types
    sources                               their names
    trial, blame, watch                   one input, run; what is wrong with it; what it may not leave behind
    work, campaign, alone                 stretches in other processes; their supervisor; who killed one
    shrink, kept                          findings made smaller, saved, run again
    report                                what is told at the end
"""
