//! The edge beside bare actix-web: the `edge` command.
