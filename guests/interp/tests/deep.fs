: deep recurse ; deep
