// Its version is given on the command line.
