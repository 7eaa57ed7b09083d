//! The stage table, the stage loop and the configuration.
