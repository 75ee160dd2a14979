//! Contracts of the command line, with the real binary.
