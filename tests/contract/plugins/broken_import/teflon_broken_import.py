"""A plugin whose library is not on this machine."""

raise ImportError("libbroken.so.3: cannot open shared object file")
