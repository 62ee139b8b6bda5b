"""Files and directories as guests use them: one seam, and its implementations.

base                the seam: the protocols FileHandle and DirectoryHandle, which every version of WASI uses
directory           implementation: files beneath an open directory of the host
single_file         implementation: files of the host that were granted one by one
memory, memory_tree implementation: files in memory only
open_file           open files as all versions of WASI use them: counted, shared, charged to the disk quota
beneath             path resolution beneath an open directory: the only way to the host's files
preopens, walk, mounts    from filesystem grants to open directories
protected           host files that no grant may reach
audit               decisions about paths, as events
file_id, file_times, utime, symlink_moves    inode numbers, times and links, as a guest may see and change them
"""
