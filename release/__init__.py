"""Makes what is given to sites: the offline bundle, the Debian package, the bill of materials. Nothing here runs in the node."""
