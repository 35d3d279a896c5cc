//! The integration tests, one binary: each module is one concern.

mod server_simulator; // each fault of the example server's upstream
mod support; // real servers and raw connections
