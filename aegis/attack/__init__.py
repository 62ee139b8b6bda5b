"""Campaigns that attack Aegis itself with hostile artifacts: ``aegis fuzz --host``.

The oracle is one sentence: *any bytes end in a documented outcome within the deadline, and the worker survives.*

    inputs, tools, seeds                  the type of an input; wasm-tools; the seed corpus
    sources                               the names of the sources, which map a seed and a number to an input
    smith, bytewise, abi_fuzzer           the sources
    cases, codegen, wat                   the components of the ABI fuzzer: structure, core code, type definitions
    trial, triage, watch                  running one input; classifying faults; detecting leaked resources
    worker, campaign, suspects            ranges of inputs in worker processes; their coordinator; inputs that kill one
    shrink, store                         findings: minimised, saved as files, replayed
    report                                the report at the end
"""
