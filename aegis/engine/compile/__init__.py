"""From bytes to native code: the engine's configuration, compiling, and the cache on disk.

config              the engine's configuration, with a frozen list of proposals
artifact, code      a module, and its native code
cache, private_folder       compiled code on disk, which only its user can change
validator, reflect  skeletons of components: validation, and their types
"""
