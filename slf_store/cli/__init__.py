"""The command line `slf`: one file per verb group; each verb mirrors a function of the library."""
