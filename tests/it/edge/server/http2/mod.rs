//! The same limits over HTTP/2, and those that only it needs.

mod attacks; // more than there may be of anything
mod floods; // frames that bring nothing, streams that end at once
mod malformed; // what is no HTTP/2, and what is but comes in odd pieces
mod places; // who is served, who waits, and what becomes of it when a client or the server leaves
mod streams; // requests side by side, and how they end
mod support; // an honest client, and one that knows no rules
