"""Compiles WebAssembly to native code: engine configuration, admission, compilation, and the cache on disk.

config              engine configuration, with a frozen list of proposals
artifact, code      core modules; native code of modules and components
cache, private_folder       compiled code on disk, in a folder that only its user can change
validator, reflect  validation of component skeletons; reading their types from the engine
"""
