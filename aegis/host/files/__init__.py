"""Files and directories that were granted, and the walls around them.

beneath             paths beneath an open directory: the only way to the host's files
directory           live handles of files and directories
preopens, walk, mounts, single_file    from filesystem grants to open directories
protected           host files that no grant may reach
audit               decisions about paths, as events
file_id, file_times, utime, symlink_moves    inode numbers, times and links, as a guest may see and change them
"""
